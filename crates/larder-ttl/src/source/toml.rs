use toml::de::{DeTable, DeValue};

use super::WrittenTable;
use crate::{
    TableError,
    value::{Setting, Value},
};

/// Reads a TOML text.
pub(crate) fn read(text: &str) -> Result<WrittenTable, TableError> {
    let line_of = |at: usize| {
        text.get(..at)
            .map(|before| before.matches('\n').count() + 1)
    };
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().and_then(|span| line_of(span.start));
        TableError::new(error.message().trim().to_owned()).line(line)
    })?;
    WrittenTable::from_settings(settings(table.get_ref(), &line_of))
}

/// Lists a table's keys in the order of the text, so that an error is about the first mistake.
fn settings(table: &DeTable<'_>, line_of: &dyn Fn(usize) -> Option<usize>) -> Vec<Setting> {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let settings = keys.into_iter().map(|(key, found)| Setting {
        key: key.get_ref().to_string(),
        value: value(found.get_ref(), line_of),
        line: line_of(key.span().start),
    });
    settings.collect()
}

fn value(value: &DeValue<'_>, line_of: &dyn Fn(usize) -> Option<usize>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number that large"),
        },
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(_) => Value::Other("a list"),
        DeValue::Table(table) => Value::Table(settings(table, line_of)),
    }
}
