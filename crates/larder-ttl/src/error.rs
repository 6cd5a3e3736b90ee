use std::fmt;

/// What is wrong with a table: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    pub(crate) row: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) line: Option<usize>,
    pub(crate) problem: String,
}

impl TableError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { row: None, key: None, line: None, problem: problem.into() }
    }

    pub(crate) fn row(mut self, row: &str) -> Self {
        self.row = Some(row.to_owned());
        self
    }

    pub(crate) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub(crate) fn line(mut self, line: Option<usize>) -> Self {
        self.line = line;
        self
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = Vec::new();
        place.extend(self.row.as_ref().map(|row| format!("row {row:?}")));
        place.extend(self.key.as_ref().map(|key| format!("key {key:?}")));
        place.extend(self.line.map(|line| format!("line {line}")));
        if place.is_empty() {
            return write!(f, "the TTL table: {}", self.problem);
        }
        write!(f, "the TTL table, {}: {}", place.join(", "), self.problem)
    }
}

impl std::error::Error for TableError {}
