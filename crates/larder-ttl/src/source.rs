//! The formats that a table is read from: TOML, with lines, and whatever serde reads, without.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use toml::de::{DeTable, DeValue};

use crate::{Policy, TableError, TtlTable, draft::Draft, scalar::Scalar};

/// Reads the policies of a TOML text.
pub(crate) fn rows_of_toml(text: &str) -> Result<Vec<(Policy, Option<usize>)>, TableError> {
    let line_of = |at: usize| text.get(..at).map(|before| before.matches('\n').count() + 1);
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().and_then(|span| line_of(span.start));
        TableError::new(error.message().trim().to_owned()).line(line)
    })?;
    let mut policies = Vec::new();
    for (name, value) in table.get_ref() {
        let line = line_of(name.span().start);
        let DeValue::Table(keys) = value.get_ref() else {
            let problem = format!("a policy is a table: write [{}] and its keys below", name.get_ref());
            return Err(TableError::new(problem).key(name.get_ref()).line(line));
        };
        let mut draft = Draft::new(name.get_ref(), line);
        for (key, value) in keys {
            draft.set(key.get_ref(), &scalar(value.get_ref()), line_of(key.span().start))?;
        }
        policies.push((draft.finish()?, line));
    }
    // In the order of the text, so that an error between two policies names the later one.
    policies.sort_by_key(|(_, line)| *line);
    Ok(policies)
}

fn scalar(value: &DeValue<'_>) -> Scalar {
    match value {
        DeValue::String(text) => Scalar::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Scalar::Integer(number),
            Err(_) => Scalar::Other("a number that large"),
        },
        DeValue::Boolean(value) => Scalar::Boolean(*value),
        DeValue::Float(_) => Scalar::Other("a number with a fraction"),
        DeValue::Datetime(_) => Scalar::Other("a date"),
        DeValue::Array(_) => Scalar::Other("a list"),
        DeValue::Table(_) => Scalar::Other("a table"),
    }
}

/// Reads a map of policies. The built-in ones are there too, unless the map replaces them.
impl<'de> Deserialize<'de> for TtlTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Rows)
    }
}

struct Rows;

impl<'de> Visitor<'de> for Rows {
    type Value = TtlTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of policies, each a map of its keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TtlTable, A::Error> {
        let mut policies = Vec::new();
        while let Some((name, keys)) = map.next_entry::<String, Keys>()? {
            let mut draft = Draft::new(&name, None);
            for (key, value) in keys.0 {
                draft.set(&key, &value, None).map_err(A::Error::custom)?;
            }
            policies.push((draft.finish().map_err(A::Error::custom)?, None));
        }
        TtlTable::builtin().extended(policies).map_err(A::Error::custom)
    }
}

struct Keys(Vec<(String, Scalar)>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor)
    }
}

struct KeysVisitor;

impl<'de> Visitor<'de> for KeysVisitor {
    type Value = Keys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy: a map of its keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
        let mut keys = Vec::new();
        while let Some(entry) = map.next_entry()? {
            keys.push(entry);
        }
        Ok(Keys(keys))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(number).map_or(Scalar::Other("a number that large"), Scalar::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other("a number with a fraction"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(value))
    }
}
