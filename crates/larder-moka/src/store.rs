use std::{
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use compact_str::CompactString;
use equivalent::Equivalent;
use larder_core::{Cells, Clock, Entry, Key, KeyRef, LocalStore, Phase};
use moka::sync::Cache;

use crate::deadlines::Deadlines;

/// A [`LocalStore`] on `moka::sync::Cache`.
///
/// An entry's stamp is checked when it is stored, and its life and the rest of its stamp at every read, against the
/// clock and the cells that the store was made with. The memory of expired entries comes back within a second or two of [`maintain`](LocalStore::maintain) being called.
pub struct MokaStore {
    cache: Cache<Stored, Entry, PassThrough>,
    cells: Arc<Cells>,
    clock: Clock,
    deadlines: Deadlines,
    changes: [Mutex<()>; CHANGES],
}

/// How many keys can be changed at once; a power of two.
const CHANGES: usize = 64;

/// How much a [`MokaStore`] holds before it evicts what is used least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Capacity {
    /// At most this many entries, whatever their weight.
    Entries(u64),
    /// At most this sum of the entries' weights.
    Weight(u64),
}

impl MokaStore {
    /// Makes an empty store. Its users must advance these cells and read this clock.
    pub fn new(capacity: Capacity, cells: Arc<Cells>, clock: Clock) -> Self {
        let builder = Cache::builder();
        let builder = match capacity {
            Capacity::Entries(entries) => builder.max_capacity(entries),
            Capacity::Weight(weight) => builder.max_capacity(weight).weigher(|_, entry: &Entry| entry.weight),
        };
        let cache = builder.build_with_hasher(PassThrough::default());
        let changes = std::array::from_fn(|_| Mutex::default());
        Self { cache, cells, deadlines: Deadlines::new(clock.now()), clock, changes }
    }

    /// Excludes other changes of the key.
    fn change(&self, key: KeyRef<'_>) -> MutexGuard<'_, ()> {
        let index = (key.hash() >> 32) as usize % CHANGES;
        // It guards nothing that a panic could leave half-done.
        self.changes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalStore for MokaStore {
    #[inline]
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        let entry = self.cache.get(&Sought(key))?;
        // P2: at every read. The key's own cell was checked when the entry was stored, and what has been invalidated
        // since is not here any more: so a hit does not fetch a cell from memory.
        if let Some(phase) = entry.life.phase(self.clock.now())
            && self.cells.scope_is_current(&entry.stamp)
            && entry.tags.as_ref().is_none_or(|tags| tags.is_current())
        {
            return Some((entry, phase));
        }
        self.remove(key);
        None
    }

    fn insert(&self, key: &Key, entry: Entry) {
        let (stored, end) = (Stored { hash: key.hash(), text: key.as_str().into() }, entry.life.end());
        let change = self.change(key.as_ref());
        // P2: under the lock that `remove` takes. If the key's cell is advanced after this look, the removal that
        // follows the advance finds the entry.
        if !self.cells.is_current(key.hash(), &entry.stamp) {
            return;
        }
        self.cache.insert(stored, entry);
        drop(change);
        self.deadlines.note(key.as_str(), end); // after, so that `maintain` finds the note or the entry
    }

    fn remove(&self, key: KeyRef<'_>) {
        let _change = self.change(key);
        self.cache.invalidate(&Sought(key));
    }

    fn maintain(&self) {
        let now = self.clock.now();
        for key in self.deadlines.take_due(now) {
            let sought = Sought(KeyRef::new(&key));
            if self.cache.get(&sought).is_some_and(|entry| entry.life.end() <= now) {
                self.cache.invalidate(&sought);
            }
        }
        self.cache.run_pending_tasks();
        if self.deadlines.is_crowded(self.cache.entry_count()) {
            // An entry that is inserted meanwhile is noted by its insert, or found here, or both.
            self.deadlines.forget();
            self.cache.iter().for_each(|(key, entry)| self.deadlines.note(&key.text, entry.life.end()));
        }
    }

    fn len(&self) -> u64 {
        self.cache.entry_count()
    }
}

impl fmt::Debug for MokaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaStore").field("entries", &self.len()).finish_non_exhaustive()
    }
}

/// The key as moka owns it: a short text lies beside its hash, so that a hit follows one pointer less.
struct Stored {
    hash: u64,
    text: CompactString,
}

/// The key as it is looked up, without owning it.
struct Sought<'a>(KeyRef<'a>);

impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Stored {}

impl Hash for Stored {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash());
    }
}

impl Equivalent<Stored> for Sought<'_> {
    fn equivalent(&self, key: &Stored) -> bool {
        self.0.as_str() == key.text.as_str()
    }
}

/// Keys bring their hash with them, so a key is hashed once however many structures it is looked up in.
type PassThrough = BuildHasherDefault<KeptHash>;

#[derive(Default)]
struct KeptHash(u64);

impl Hasher for KeptHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is ever called; folding whatever else may come keeps this a hash all the same.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn store(capacity: Capacity) -> (MokaStore, Arc<Cells>, Clock) {
        let (cells, clock) = (Arc::new(Cells::new(64, 1, 1)), Clock::system());
        (MokaStore::new(capacity, cells.clone(), clock.clone()), cells, clock)
    }

    fn entry(cells: &Cells, key: &Key, end: larder_core::Moment, weight: u32) -> Entry {
        Entry {
            value: Some(Arc::new(7_u32)),
            life: larder_core::Life::until(end),
            stamp: cells.stamp(key.hash(), 0, 0),
            tags: None,
            weight,
        }
    }

    #[test]
    fn invalid_entry_is_removed_when_met() {
        let (store, cells, clock) = store(Capacity::Entries(10));
        let key = Key::from("k:1");
        store.insert(&key, entry(&cells, &key, clock.now() + Duration::from_secs(60), 1));
        cells.advance_lane(0);
        store.maintain();
        assert_eq!(store.len(), 1);
        assert!(store.get(key.as_ref()).is_none());
        store.maintain();
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn full_store_evicts_by_weight() {
        let (store, cells, clock) = store(Capacity::Weight(1000));
        for i in 0..100 {
            let key = Key::from(format!("k:{i}").as_str());
            store.insert(&key, entry(&cells, &key, clock.now() + Duration::from_secs(60), 100));
        }
        store.maintain();
        assert!(store.len() <= 10, "{}", store.len());
    }

    #[test]
    fn key_overwritten_for_ever_leaves_no_growing_trail() {
        let (store, cells, clock) = store(Capacity::Entries(10));
        let key = Key::from("k:1");
        for _ in 0..100_000 {
            store.insert(&key, entry(&cells, &key, clock.now() + Duration::from_secs(3600), 1));
        }
        assert!(store.deadlines.is_crowded(1));
        store.maintain();
        assert!(!store.deadlines.is_crowded(1));
        assert!(store.get(key.as_ref()).is_some());
    }

    #[test]
    fn expired_entries_give_their_memory_back_unread() {
        let (store, cells, clock) = store(Capacity::Entries(1000));
        for i in 0..100 {
            let key = Key::from(format!("k:{i}").as_str());
            store.insert(&key, entry(&cells, &key, clock.now() + Duration::from_millis(20), 1));
        }
        store.maintain();
        assert_eq!(store.len(), 100);
        let given_up = clock.now() + Duration::from_secs(10);
        while store.len() > 0 {
            assert!(clock.now() < given_up, "{} entries are still held", store.len());
            std::thread::yield_now();
            store.maintain();
        }
    }
}
