//! The reports of the nodes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::history::History;

/// The reports of the nodes.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) history: History,
    pub(crate) failed_reads: Vec<String>,
    pub(crate) failed_writes: BTreeMap<String, usize>,
    pub(crate) misses: usize,
}

pub(crate) type Shared = Arc<Mutex<Told>>;

pub(crate) fn lock(told: &Shared) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}
