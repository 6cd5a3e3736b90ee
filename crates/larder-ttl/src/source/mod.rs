//! The formats that a table is read from, and the one way from their keys to policies.

use crate::{
    Policy, TableError,
    draft::{BUILTIN, PolicyDraft, is_key},
    value::{Setting, Value},
};

mod serde;
mod toml;

pub(crate) use toml::read as read_toml;

/// A table as its text has it: each policy checked by itself.
pub(crate) struct WrittenTable {
    /// Whether the built-in policies are wanted too.
    pub(crate) builtin: bool,
    /// The policies in the order of the text, each with the line of its prefix.
    pub(crate) policies: Vec<(Policy, Option<usize>)>,
}

impl WrittenTable {
    fn from_settings(settings: Vec<Setting>) -> Result<Self, TableError> {
        let mut table = Self {
            builtin: true,
            policies: Vec::new(),
        };
        for Setting { key, value, line } in settings {
            match value {
                Value::Table(keys) => {
                    let mut draft = PolicyDraft::new(&key, line);
                    for Setting { key, value, line } in &keys {
                        draft.set(key, value, *line)?;
                    }
                    let line = draft.line_of("prefix");
                    table.policies.push((draft.finish()?, line));
                }
                value if key == BUILTIN => {
                    let wanted = value.boolean().map_err(TableError::new);
                    table.builtin = wanted.map_err(|error| error.key(BUILTIN).line(line))?;
                }
                value => {
                    return Err(TableError::new(misplaced(&key, &value))
                        .key(&key)
                        .line(line));
                }
            }
        }
        Ok(table)
    }
}

/// Says what to write in place of a key at the top of a table.
fn misplaced(key: &str, value: &Value) -> String {
    if is_key(key) {
        return format!(
            "{key} is a key of a policy: write the policy's name above it, such as [user_profile]"
        );
    }
    if matches!(value, Value::Boolean(_)) && strsim::levenshtein(key, BUILTIN) <= 2 {
        return format!("there is no such key; is {BUILTIN:?} meant?");
    }
    format!("a policy is a table: write [{key}] and its keys below")
}
