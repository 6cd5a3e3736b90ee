use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{cell::DatabaseState, limits::Key};

/// The time that a slow call takes.
const SLOW: Duration = Duration::from_millis(150);

/// The source of truth: a version for each key, which every write makes larger.
#[derive(Debug)]
pub(crate) struct Database {
    versions: Mutex<[u32; Key::COUNT]>,
    state: watch::Sender<DatabaseState>,
    start: Instant,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self {
            versions: Mutex::new([1; Key::COUNT]),
            state: watch::Sender::new(DatabaseState::Fast),
            start: Instant::now(),
        }
    }

    pub(crate) fn become_(&self, state: DatabaseState) {
        self.state.send_replace(state);
    }

    /// Milliseconds since the database was made.
    pub(crate) fn age(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The key's version, without the delay that callers see.
    pub(crate) fn version(&self, key: Key) -> u32 {
        self.versions()[key.index()]
    }

    pub(crate) async fn read(&self, key: Key) -> io::Result<u32> {
        let state = *self.state.borrow();
        match state {
            DatabaseState::Fast => Ok(self.version(key)),
            DatabaseState::Failing => Err(failure()),
            DatabaseState::Slow => {
                sleep(SLOW / 2).await;
                let version = self.version(key);
                sleep(SLOW / 2).await;
                Ok(version)
            }
            DatabaseState::Hanging => {
                // A caller that still waits at the end of the fault gets the version from before.
                let version = self.version(key);
                self.healed().await;
                Ok(version)
            }
        }
    }

    /// Writes. In half of the cases, a write that fails or hangs has taken place all the same.
    pub(crate) async fn write(&self, key: Key) -> io::Result<u32> {
        let state = *self.state.borrow();
        match state {
            DatabaseState::Fast => Ok(self.commit(key)),
            DatabaseState::Failing => {
                if fastrand::bool() {
                    self.commit(key);
                }
                Err(failure())
            }
            DatabaseState::Slow => {
                sleep(SLOW / 2).await;
                let version = self.commit(key);
                sleep(SLOW / 2).await;
                Ok(version)
            }
            DatabaseState::Hanging => {
                let version = fastrand::bool().then(|| self.commit(key));
                self.healed().await;
                Ok(version.unwrap_or_else(|| self.commit(key)))
            }
        }
    }

    async fn healed(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| *state != DatabaseState::Hanging)
            .await;
    }

    fn commit(&self, key: Key) -> u32 {
        let mut versions = self.versions();
        versions[key.index()] += 1;
        versions[key.index()]
    }

    fn versions(&self) -> MutexGuard<'_, [u32; Key::COUNT]> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failure() -> io::Error {
    io::Error::other("the database fails on purpose")
}
