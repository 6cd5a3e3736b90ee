use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::de::{Deserialize, Deserializer, Error as _};

use crate::{
    Levels, Policy, TableError,
    source::{WrittenTable, read_toml},
};

/// The policies of an application, by name.
///
/// Five policies are built in. A table that is read or extended has them too, unless it replaces
/// them, or begins with `builtin = false`:
///
/// | policy | prefix | ttl | levels | reason |
/// | --- | --- | --- | --- | --- |
/// | `session_token` | `session_token` | 24 h | `l2` | security |
/// | `user_profile` | `user` | 1 h | `both` | moderate change frequency |
/// | `static_config` | `static_config` | 24 h | `both` | rarely changes |
/// | `search_result` | `search_result` | 5 min | `both` | freshness |
/// | `rate_limit` | `rate_limit` | 1 min | `l2` | real-time accuracy |
///
/// `Display` shows a table for people. The table can be a part of an application's own
/// configuration:
///
/// ```
/// use larder_ttl::TtlTable;
///
/// #[derive(serde::Deserialize)]
/// struct Config {
///     cache: TtlTable,
/// }
///
/// let config: Config = serde_json::from_str(r#"{"cache": {"posts": {"ttl": "5m"}}}"#)?;
/// assert!(config.cache.policy("posts").is_some());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TtlTable {
    policies: Vec<Policy>,
}

impl TtlTable {
    /// Returns a table without any policy, also without the built-in ones.
    ///
    /// In a text, `builtin = false` above the first policy is the same.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::{Policy, TtlTable};
    ///
    /// let user = Policy::builder("user", Duration::from_secs(60)).build()?;
    /// let table = TtlTable::empty().with(user)?;
    /// assert_eq!(table, TtlTable::from_toml("builtin = false\n[user]\nttl = '1m'")?);
    /// assert_eq!(table.policies().count(), 1);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn empty() -> Self {
        Self {
            policies: Vec::new(),
        }
    }

    /// Returns the five built-in policies; so does `default()`.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// assert_eq!(TtlTable::builtin().policy("user_profile").unwrap().prefix(), "user");
    /// ```
    pub fn builtin() -> Self {
        let policy = |name: &str, prefix: &str, seconds, levels, reason: &str| Policy {
            prefix: prefix.to_owned(),
            ttl: Duration::from_secs(seconds),
            levels,
            reason: reason.to_owned(),
            ..Policy::with_defaults(name.to_owned())
        };
        let policies = vec![
            policy(
                "session_token",
                "session_token",
                24 * 3600,
                Levels::L2,
                "security",
            ),
            policy(
                "user_profile",
                "user",
                3600,
                Levels::Both,
                "moderate change frequency",
            ),
            policy(
                "static_config",
                "static_config",
                24 * 3600,
                Levels::Both,
                "rarely changes",
            ),
            policy(
                "search_result",
                "search_result",
                300,
                Levels::Both,
                "freshness",
            ),
            policy(
                "rate_limit",
                "rate_limit",
                60,
                Levels::L2,
                "real-time accuracy",
            ),
        ];
        Self { policies }
    }

    /// Reads a TOML text with a table for each policy. A policy replaces the built-in one of its
    /// name as a whole; the other built-in policies are kept, unless `builtin = false` stands above
    /// the first policy.
    ///
    /// # Errors
    /// [`TableError`] with the policy, the key, the line and the remedy.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml(
    ///     r#"
    ///     builtin = false      # `user` is a built-in prefix, which this table wants for itself
    ///
    ///     [user]
    ///     ttl = "1m"
    ///     "#,
    /// )?;
    /// assert_eq!(table.policies().count(), 1);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, TableError> {
        Self::from_written(read_toml(text)?)
    }

    /// Reads a TOML file, like [`from_toml`](Self::from_toml).
    ///
    /// # Errors
    /// [`TableError`] with the path, and with the policy, the key and the line of a mistake. If the
    /// file cannot be read, `source()` is the [`std::io::Error`].
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let error = TtlTable::from_file("/no/such.toml").unwrap_err();
    /// assert_eq!(error.to_string(), "the TTL table /no/such.toml: the file cannot be read");
    /// ```
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, TableError> {
        let path = PathBuf::from(path.as_ref());
        match fs::read_to_string(&path) {
            Ok(text) => Self::from_toml(&text).map_err(|error| error.in_file(path)),
            Err(cause) => Err(TableError::unreadable(path, cause)),
        }
    }

    /// Adds a policy, or replaces the one of the same name.
    ///
    /// # Errors
    /// [`TableError`] if another policy has the same prefix.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::{Policy, TtlTable};
    ///
    /// let posts = Policy::builder("posts", Duration::from_secs(300)).build()?;
    /// assert_eq!(TtlTable::builtin().with(posts)?.policies().count(), 6);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn with(self, policy: Policy) -> Result<Self, TableError> {
        self.extended(vec![(policy, None)])
    }

    /// Returns the policy of this name.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// assert!(TtlTable::default().policy("rate_limit").is_some());
    /// assert!(TtlTable::default().policy("no_such_policy").is_none());
    /// ```
    pub fn policy(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// Returns all policies, in the order in which they were added.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::default();
    /// let names: Vec<&str> = table.policies().map(|policy| policy.name()).collect();
    /// assert_eq!(names[0], "session_token");
    /// ```
    pub fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.iter()
    }

    fn from_written(written: WrittenTable) -> Result<Self, TableError> {
        let start = if written.builtin {
            Self::builtin()
        } else {
            Self::empty()
        };
        start.extended(written.policies)
    }

    /// Adds or replaces policies, each with its line, and then checks them against all others.
    fn extended(mut self, added: Vec<(Policy, Option<usize>)>) -> Result<Self, TableError> {
        for (policy, _) in &added {
            match self
                .policies
                .iter_mut()
                .find(|present| present.name == policy.name)
            {
                Some(present) => *present = policy.clone(),
                None => self.policies.push(policy.clone()),
            }
        }
        for (at, (policy, line)) in added.iter().enumerate() {
            // Of two that are added, the later one is to change.
            let later = |name: &str| added[at..].iter().any(|(policy, _)| policy.name == name);
            let shares = |other: &&Policy| other.prefix == policy.prefix && !later(&other.name);
            if let Some(other) = self.policies.iter().find(shares) {
                let error = TableError::new(shared_prefix(policy, other)).policy(&policy.name);
                return Err(error.key("prefix").line(*line));
            }
        }
        Ok(self)
    }
}

/// Says why a policy cannot have the prefix of another one, and what to do.
fn shared_prefix(policy: &Policy, other: &Policy) -> String {
    let (name, prefix, other_name) = (&policy.name, &policy.prefix, &other.name);
    if TtlTable::builtin().policy(other_name) == Some(other) {
        return format!(
            "{prefix:?} is already the prefix of {other_name:?}, which is built in; give {name:?} another prefix, or \
             replace the built-in policy by a [{other_name}] of your own, or leave out all built-in policies with \
             builtin = false at the top of the table (in code: TtlTable::empty())"
        );
    }
    format!(
        "policies {other_name:?} and {name:?} share the prefix {prefix:?}; give one another prefix"
    )
}

impl Default for TtlTable {
    fn default() -> Self {
        Self::builtin()
    }
}

/// Reads a map of policies from any format. The built-in ones are there too, unless the map
/// replaces them, or has `builtin` set to `false`.
impl<'de> Deserialize<'de> for TtlTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_written(WrittenTable::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
