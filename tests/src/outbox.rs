use std::{fs, io, path::PathBuf};

use async_trait::async_trait;
use larder::{Outbox, OutboxEntry, OutboxError};

/// An outbox that several processes share: a folder with a file for each entry, named by its id.
/// It stands for a table in the database, and the appearance of a file for the commit.
#[derive(Clone, Debug)]
pub struct FolderOutbox(PathBuf);

impl FolderOutbox {
    /// Makes an outbox of an existing folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Commits an entry.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn record(&self, id: i64, key: &str) -> io::Result<()> {
        let unfinished = self.0.join(format!("{id}.unfinished"));
        fs::write(&unfinished, key)?;
        fs::rename(unfinished, self.0.join(id.to_string()))
    }

    /// Returns all entries, in the order of their ids.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn entries(&self) -> io::Result<Vec<OutboxEntry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.0)? {
            let file = file?;
            let Some(id) = file.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            entries.push(OutboxEntry {
                id,
                key: fs::read_to_string(file.path())?,
            });
        }
        entries.sort_by_key(|entry| entry.id);
        Ok(entries)
    }
}

#[async_trait]
impl Outbox for FolderOutbox {
    async fn unconfirmed(&self, after: i64, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        Ok(self
            .entries()?
            .into_iter()
            .filter(|entry| entry.id > after)
            .take(limit)
            .collect())
    }

    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError> {
        for id in ids {
            match fs::remove_file(self.0.join(id.to_string())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}
