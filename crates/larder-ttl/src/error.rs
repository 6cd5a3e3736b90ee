use std::{error::Error, fmt, io, path::PathBuf, sync::Arc};

/// A mistake in a table: its place, and the remedy.
///
/// ```
/// use larder_ttl::TtlTable;
///
/// let error = TtlTable::from_toml("[user_posts]\nttl = 300").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"the TTL table, policy "user_posts", key "ttl", line 2: "#.to_owned()
///         + r#"300 has no unit; write "300s" if seconds are meant"#
/// );
/// ```
#[derive(Clone, Debug)]
pub struct TableError {
    file: Option<PathBuf>,
    policy: Option<String>,
    key: Option<String>,
    line: Option<usize>,
    problem: String,
    cause: Option<Arc<io::Error>>,
}

impl TableError {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Self {
            file: None,
            policy: None,
            key: None,
            line: None,
            problem: problem.into(),
            cause: None,
        }
    }

    pub(crate) fn unreadable(file: PathBuf, cause: io::Error) -> Self {
        Self {
            cause: Some(Arc::new(cause)),
            ..Self::new("the file cannot be read").in_file(file)
        }
    }

    pub(crate) fn in_file(self, file: PathBuf) -> Self {
        Self {
            file: Some(file),
            ..self
        }
    }

    pub(crate) fn policy(self, policy: &str) -> Self {
        Self {
            policy: Some(policy.to_owned()),
            ..self
        }
    }

    pub(crate) fn key(self, key: &str) -> Self {
        Self {
            key: Some(key.to_owned()),
            ..self
        }
    }

    pub(crate) fn line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the TTL table")?;
        if let Some(file) = &self.file {
            write!(f, " {}", file.display())?;
        }
        if let Some(policy) = &self.policy {
            write!(f, ", policy {policy:?}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", key {key:?}")?;
        }
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Error for TableError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_ref()
            .map(|cause| &**cause as &(dyn Error + 'static))
    }
}
