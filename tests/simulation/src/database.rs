//! The source of truth.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_chaos::{Commit, Key};

use crate::{
    life::Life,
    time::{note, now, pause},
};

/// A version for each key, and when each was committed. A read or a write takes time before and
/// after the moment at which it takes place.
#[derive(Debug)]
pub(crate) struct Database {
    commits: Mutex<Vec<Vec<Commit>>>,
    /// The longest time before and after that moment, in milliseconds.
    longest: u64,
}

/// A process's way to the database.
#[derive(Clone, Debug)]
pub(crate) struct DatabaseClient {
    database: Arc<Database>,
    life: Life,
}

/// The text of failures that are part of the workload.
pub(crate) const ON_PURPOSE: &str = "failed on purpose";

impl Database {
    pub(crate) fn new(longest: u64) -> Self {
        Self {
            commits: Mutex::new(vec![Vec::new(); Key::COUNT]),
            longest,
        }
    }

    fn commits(&self) -> MutexGuard<'_, Vec<Vec<Commit>>> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of a key; zero if it was never written.
    pub(crate) fn version(&self, key: Key) -> u32 {
        u32::try_from(self.commits()[key.index()].len()).unwrap_or(u32::MAX)
    }

    /// Writes a key at this moment.
    pub(crate) fn commit(&self, key: Key, commit: Commit) -> u32 {
        let at = now();
        self.commits()[key.index()].push(Commit { at, ..commit });
        let version = self.version(key);
        note(|| format!("database has version {version} of {key}"));
        version
    }

    /// All writes of each key, in the order of its versions.
    pub(crate) fn all(&self) -> Vec<Vec<Commit>> {
        self.commits().clone()
    }
}

impl DatabaseClient {
    pub(crate) fn new(database: Arc<Database>, life: Life) -> Self {
        Self { database, life }
    }

    /// Reads the version of a key, or fails now and then.
    pub(crate) async fn read(&self, key: Key) -> io::Result<u32> {
        self.pause().await;
        let version = self.database.version(key);
        note(|| format!("database reads version {version} of {key}"));
        self.pause().await;
        match fastrand::u8(0..24) {
            0 => Err(io::Error::other(ON_PURPOSE)),
            _ => Ok(version),
        }
    }

    /// Writes a key for a call that came at `asked`, and returns the new version.
    pub(crate) async fn write(&self, key: Key, commit: Commit) -> u32 {
        self.pause().await;
        let version = self.database.commit(key, commit);
        self.pause().await;
        version
    }

    async fn pause(&self) {
        pause(self.database.longest).await;
        self.life.goes_on().await;
    }
}
