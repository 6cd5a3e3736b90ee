use std::fmt;

/// What is wrong with a table: where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    pub(crate) policy: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) line: Option<usize>,
    pub(crate) problem: String,
}

impl TableError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self { policy: None, key: None, line: None, problem: problem.into() }
    }

    pub(crate) fn policy(mut self, policy: &str) -> Self {
        self.policy = Some(policy.to_owned());
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
        place.extend(self.policy.as_ref().map(|policy| format!("policy {policy:?}")));
        place.extend(self.key.as_ref().map(|key| format!("key {key:?}")));
        place.extend(self.line.map(|line| format!("line {line}")));
        if place.is_empty() {
            return write!(f, "the TTL table: {}", self.problem);
        }
        write!(f, "the TTL table, {}: {}", place.join(", "), self.problem)
    }
}

impl std::error::Error for TableError {}
