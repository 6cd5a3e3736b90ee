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
    /// The length of what all names of this master's probes begin with.
    place: usize,
    written: Mutex<Option<Instant>>,
    pushes: AtomicU64,
}

impl ProbeKey {
    /// A key for this master: in one of its slots, so that the key can be read and written there.
    pub(crate) fn new(names: &Names, slot_map: &SlotMap, master: usize) -> Self {
        let mut name = names.probes();
        if let Some((first, _)) = slot_map.slots(master).next()
            && !slot_map.masters().is_empty()
        {
            name.push_str(&format!("{{{}}}:", number_in_slot(first)));
        }
        let place = name.len();
        name.push_str(Token::new().as_str());
        Self {
            name,
            place,
            written: Mutex::default(),
            pushes: AtomicU64::new(0),
        }
    }

    /// The name of a mark on the same master.
    pub(crate) fn mark(&self, token: &Token) -> String {
        format!("{}mark:{}", &self.name[..self.place], token.as_str())
    }

    /// The name under which processes tell each other that the master was empty.
    pub(crate) fn empty(&self) -> String {
        format!("{}empty", &self.name[..self.place])
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
