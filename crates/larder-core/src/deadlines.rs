use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{LocalKey, Moment};

/// Which keys may have expired when: so that memory comes back without a look at every entry, and without the price
/// that a map's own expiry puts on every hit.
///
/// A key is noted at each insert and never taken out before its time, so what it says must be checked.
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

/// So many notes for each entry are more than overwriting should leave behind.
const NOTES_PER_ENTRY: u64 = 4;
const ALWAYS_ALLOWED: u64 = 4096;

impl Deadlines {
    pub(crate) fn new(origin: Moment) -> Self {
        Self { origin, noted: Mutex::default() }
    }

    pub(crate) fn note(&self, key: LocalKey, deadline: Moment) {
        let mut noted = self.noted();
        noted.by_second.entry(self.second(deadline) + 1).or_default().push(key);
        noted.len += 1;
    }

    /// Takes the keys whose deadlines have passed, if they have not been given new ones.
    pub(crate) fn take_due(&self, now: Moment) -> Vec<LocalKey> {
        let mut noted = self.noted();
        let later = noted.by_second.split_off(&(self.second(now) + 1));
        let due: Vec<LocalKey> =
            std::mem::replace(&mut noted.by_second, later).into_values().flatten().collect();
        noted.len -= due.len();
        due
    }

    /// Tells whether keys that were overwritten often have left too many notes for this number of entries.
    pub(crate) fn is_crowded(&self, entries: u64) -> bool {
        self.noted().len as u64 > NOTES_PER_ENTRY * entries + ALWAYS_ALLOWED
    }

    /// Forgets everything; the entries that there are must be noted again.
    pub(crate) fn forget(&self) {
        *self.noted() = Noted::default();
    }

    fn second(&self, moment: Moment) -> u64 {
        moment.since(self.origin).as_secs().min(Duration::MAX.as_secs() / 2)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        // Nothing in here can panic half-way.
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
