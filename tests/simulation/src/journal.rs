//! The record of a history.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use larder_chaos::{Link, Read, Write};

/// All that the processes did.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Entries>);

/// The entries of a [`Journal`].
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) reads: Vec<Read>,
    pub(crate) writes: Vec<Write>,
    /// When processes reached the server.
    pub(crate) links: Vec<Link>,
    /// The processes that were killed, and when.
    pub(crate) deaths: HashMap<u16, u64>,
    /// Calls that failed, which none should.
    pub(crate) failures: Vec<String>,
    /// Calls of caches, whatever became of them.
    pub(crate) operations: usize,
}

impl Journal {
    pub(crate) fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
