use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use super::key::LocalKey;
use crate::{clock::Moment, sync::lock};

/// Notes of when keys may have expired, by second.
///
/// They give memory back without a look at every entry, and without the price that a map's own
/// expiry puts on every hit. A key is noted at each insert and never taken out before its time, so
/// the entry itself must be checked when a note is due.
#[derive(Debug)]
pub(crate) struct Deadlines {
    origin: Moment,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    by_second: BTreeMap<u64, Vec<LocalKey>>,
    len: usize,
}

/// Notes for each entry, 4: more of them are the trail of overwritten keys.
const NOTES_PER_ENTRY: u64 = 4;

/// Notes that are never too many, 4,096, so that a small store is not walked over and over.
const ALWAYS_ALLOWED: u64 = 4096;

impl Deadlines {
    pub(crate) fn new(origin: Moment) -> Self {
        Self {
            origin,
            noted: Mutex::default(),
        }
    }

    pub(crate) fn note(&self, key: LocalKey, deadline: Moment) {
        let mut noted = self.noted();
        noted
            .by_second
            .entry(self.second(deadline) + 1)
            .or_default()
            .push(key);
        noted.len += 1;
    }

    /// Takes the keys with a note whose time has come. A newer entry may live longer than its note.
    pub(crate) fn take_due(&self, now: Moment) -> Vec<LocalKey> {
        let mut noted = self.noted();
        let later = noted.by_second.split_off(&(self.second(now) + 1));
        let due: Vec<LocalKey> = std::mem::replace(&mut noted.by_second, later)
            .into_values()
            .flatten()
            .collect();
        noted.len -= due.len();
        due
    }

    /// Tells whether overwritten keys have left too many notes for this number of entries.
    pub(crate) fn is_crowded(&self, entries: u64) -> bool {
        self.noted().len as u64 > NOTES_PER_ENTRY * entries + ALWAYS_ALLOWED
    }

    /// Forgets all notes. The caller notes the present entries again.
    pub(crate) fn forget(&self) {
        *self.noted() = Noted::default();
    }

    fn second(&self, moment: Moment) -> u64 {
        moment
            .since(self.origin)
            .as_secs()
            .min(Duration::MAX.as_secs() / 2)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        lock(&self.noted)
    }
}
