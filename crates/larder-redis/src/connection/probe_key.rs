use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::Token;
use tokio::time::Instant;

use crate::{
    command::{names::Names, slots::number_in_slot},
    connection::slot_map::SlotMap,
};

/// A key by which a connection proves that pushes arrive: the connection reads it, and another
/// connection writes it.
pub(crate) struct ProbeKey {
    pub(crate) name: String,
    written: Mutex<Option<Instant>>,
    pushes: AtomicU64,
}

impl ProbeKey {
    /// A key for this master: in one of its slots, so that the key can be read and written there.
    pub(crate) fn new(names: &Names, slot_map: &SlotMap, master: usize) -> Self {
        let (probes, token) = (names.probes(), Token::new());
        let name = match slot_map.slots(master).next() {
            Some((first, _)) if !slot_map.masters().is_empty() => {
                format!("{probes}{{{}}}:{}", number_in_slot(first), token.as_str())
            }
            _ => format!("{probes}{}", token.as_str()),
        };
        Self {
            name,
            written: Mutex::default(),
            pushes: AtomicU64::new(0),
        }
    }

    /// Notes that the key is about to be written.
    pub(crate) fn note_write(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Notes that the key's push has arrived, and returns the time since the write that caused it.
    pub(crate) fn note_push(&self) -> Option<Duration> {
        // AcqRel pairs with the Acquire in `pushes`: the prober that sees the count sees all that
        // the push has done.
        self.pushes.fetch_add(1, Ordering::AcqRel);
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .map(|written| written.elapsed())
    }

    /// The number of pushes that have arrived.
    pub(crate) fn pushes(&self) -> u64 {
        self.pushes.load(Ordering::Acquire)
    }
}
