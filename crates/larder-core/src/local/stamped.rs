use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use super::{LocalStore, deadlines::Deadlines, entry::Entry, key::LocalKey};
use crate::{
    clock::{Clock, Moment},
    generations::Generations,
    key::{hash::KeyRef, owned::Key},
    life::Phase,
    sync::lock,
};

/// A [`LocalStore`] made of a bounded map.
///
/// It checks the lives, stamps and tags of the entries, in the same way on every map. It checks the
/// generation of an entry's key when it stores the entry. It checks the entry's life, its tags and
/// the rest of its stamp at every read. If its owner calls [`maintain`](LocalStore::maintain) once
/// a second, the memory of an expired entry comes back within 2 s.
///
/// # Examples
/// ```
/// use std::{collections::HashMap, sync::{Arc, Mutex}, time::Duration};
/// use larder_core::*;
///
/// /// A map that is never full.
/// #[derive(Default)]
/// struct Unbounded(Mutex<HashMap<LocalKey, Entry>>);
///
/// fn owned(key: &KeyRef<'_>) -> LocalKey {
///     let text = std::str::from_utf8(key.as_bytes()).unwrap();
///     LocalKey::from(&Key::from_stored_name(text))
/// }
///
/// impl LocalMap for Unbounded {
///     fn get(&self, key: &KeyRef<'_>) -> Option<Entry> {
///         self.0.lock().unwrap().get(&owned(key)).cloned()
///     }
///     fn contains_key(&self, key: &KeyRef<'_>) -> bool {
///         self.0.lock().unwrap().contains_key(&owned(key))
///     }
///     fn insert(&self, key: LocalKey, entry: Entry) {
///         self.0.lock().unwrap().insert(key, entry);
///     }
///     fn remove(&self, key: KeyRef<'_>) {
///         self.0.lock().unwrap().remove(&owned(&key));
///     }
///     fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
///         let mut map = self.0.lock().unwrap();
///         if map.get(&owned(&key)).is_some_and(|entry| entry.life.end() <= now) {
///             map.remove(&owned(&key));
///         }
///     }
///     fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
///         self.0.lock().unwrap().iter().for_each(|(key, entry)| see(key.clone(), entry));
///     }
///     fn run_pending_tasks(&self) {}
///     fn len(&self) -> u64 {
///         self.0.lock().unwrap().len() as u64
///     }
/// }
///
/// let (generations, clock) = (Arc::new(Generations::new(1024, 1, 1)), Clock::system());
/// let store = Stamped::new(Unbounded::default(), generations.clone(), clock.clone());
///
/// let key = Key::from_stored_name("user:42");
/// let stamp = generations.stamp(key.hash(), LaneIndex::NONE, PolicyIndex(0));
/// let life = Life::until(clock.now() + Duration::from_secs(60));
/// store.insert(&key, Entry { value: Some(Arc::new("Ada")), life, stamp, tags: None, weight: 1 });
/// assert!(store.get(key.as_ref()).is_some());
/// ```
pub struct Stamped<M> {
    map: M,
    generations: Arc<Generations>,
    clock: Clock,
    deadlines: Deadlines,
    changes: [Mutex<()>; CHANGES],
}

/// A bounded concurrent map that evicts by itself, and knows nothing of lives and stamps.
///
/// [`Stamped`] makes a [`LocalStore`] of it.
///
/// # Consistency
/// When `insert` has returned, a `get` or `remove` that begins later finds the entry, unless the
/// map has evicted it. When `remove` has returned, no `get` that begins later finds the entry.
pub trait LocalMap: Send + Sync + 'static {
    /// Returns a copy of the key's entry.
    fn get(&self, key: &KeyRef<'_>) -> Option<Entry>;

    /// Tells whether the map has an entry for the key. It does not count as a use of the entry.
    fn contains_key(&self, key: &KeyRef<'_>) -> bool;

    /// Stores an entry in place of the key's present one. If there is no room for it, neither
    /// stays.
    fn insert(&self, key: LocalKey, entry: Entry);

    /// Removes the key's entry.
    fn remove(&self, key: KeyRef<'_>);

    /// Removes the key's entry if its life is over at this moment. In a race, a newer entry of the
    /// key may be removed instead.
    fn remove_expired(&self, key: KeyRef<'_>, now: Moment);

    /// Shows each entry. An entry that comes or goes meanwhile may be shown or not.
    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry));

    /// Does the work that the map has put off.
    fn run_pending_tasks(&self);

    /// The approximate number of entries.
    fn len(&self) -> u64;

    /// Tells whether the map is empty, approximately.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Locks for changes of keys. 64, a power of two: up to 64 keys can be changed at once.
const CHANGES: usize = 64;

impl<M: LocalMap> Stamped<M> {
    /// Makes a store of an empty map. Its users must bump these generations and read this clock.
    pub fn new(map: M, generations: Arc<Generations>, clock: Clock) -> Self {
        let changes = std::array::from_fn(|_| Mutex::default());
        Self {
            map,
            generations,
            deadlines: Deadlines::new(clock.now()),
            clock,
            changes,
        }
    }

    /// Passes to `see` the entry that [`get`](LocalStore::get) would return. `see` may move parts
    /// out of it.
    ///
    /// This does not move the entry: a hit that moved it would wait until the processor has written
    /// each part.
    #[inline]
    pub fn look<R>(&self, key: KeyRef<'_>, see: impl FnOnce(&mut Entry, Phase) -> R) -> Option<R> {
        // Before the look, which waits for memory, so that the one is done while the other waits.
        let now = self.clock.now();
        let mut found = self.map.get(&key);
        let entry = found.as_mut()?;
        // P2 only-current-is-served: at every read. The key's own generation was checked when the
        // entry was stored, and an invalidation since then has removed the entry. So a hit does not
        // fetch the key's counter from memory.
        if let Some(phase) = entry.life.phase(now)
            && self.generations.scope_is_current(&entry.stamp)
            && entry.tags.as_ref().is_none_or(|tags| tags.is_current())
        {
            return Some(see(entry, phase));
        }
        self.remove_met(key);
        None
    }

    #[cold]
    fn remove_met(&self, key: KeyRef<'_>) {
        self.remove(key);
    }

    /// Excludes other changes of the key.
    fn change(&self, key: KeyRef<'_>) -> MutexGuard<'_, ()> {
        let index = (key.hash().0 >> 32) as usize % CHANGES;
        lock(&self.changes[index])
    }
}

impl<M: LocalMap> LocalStore for Stamped<M> {
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        self.look(key, |entry, phase| {
            (
                Entry {
                    value: entry.value.take(),
                    tags: entry.tags.take(),
                    ..*entry
                },
                phase,
            )
        })
    }

    fn get_uncounted(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        if self.map.contains_key(&key) {
            self.get(key)
        } else {
            None
        }
    }

    fn insert(&self, key: &Key, entry: Entry) {
        let (local, end) = (LocalKey::from(key), entry.life.end());
        let noted = local.clone();
        let change = self.change(key.as_ref());
        // P2 only-current-is-served: under the lock that `remove` takes. If the key is bumped after
        // this check, the removal that follows the bump finds the entry.
        if !self.generations.is_current(key.hash(), &entry.stamp) {
            return;
        }
        self.map.insert(local, entry);
        drop(change);
        self.deadlines.note(noted, end); // after, so that `maintain` finds the note or the entry
    }

    fn remove(&self, key: KeyRef<'_>) {
        let _change = self.change(key);
        self.map.remove(key);
    }

    fn maintain(&self) {
        let now = self.clock.now();
        for key in self.deadlines.take_due(now) {
            self.map.remove_expired(key.as_ref(), now);
        }
        self.map.run_pending_tasks();
        if self.deadlines.is_crowded(self.map.len()) {
            // An entry that is inserted meanwhile is noted by its insert, or found here, or both.
            self.deadlines.forget();
            self.map
                .for_each(&mut |key, entry| self.deadlines.note(key, entry.life.end()));
        }
    }

    fn len(&self) -> u64 {
        self.map.len()
    }
}

impl<M: LocalMap> fmt::Debug for Stamped<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamped")
            .field("entries", &self.map.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;
    use crate::{LaneIndex, Life, PassThrough, PolicyIndex};

    #[derive(Default)]
    struct Unbounded(Mutex<HashMap<LocalKey, Entry, PassThrough>>);

    impl LocalMap for Unbounded {
        fn get(&self, key: &KeyRef<'_>) -> Option<Entry> {
            self.0.lock().unwrap().get(&local(*key)).cloned()
        }

        fn contains_key(&self, key: &KeyRef<'_>) -> bool {
            self.0.lock().unwrap().contains_key(&local(*key))
        }

        fn insert(&self, key: LocalKey, entry: Entry) {
            self.0.lock().unwrap().insert(key, entry);
        }

        fn remove(&self, key: KeyRef<'_>) {
            self.0.lock().unwrap().remove(&local(key));
        }

        fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
            self.0
                .lock()
                .unwrap()
                .retain(|held, entry| *held != local(key) || entry.life.end() > now);
        }

        fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
            self.0
                .lock()
                .unwrap()
                .iter()
                .for_each(|(key, entry)| see(key.clone(), entry));
        }

        fn run_pending_tasks(&self) {}

        fn len(&self) -> u64 {
            self.0.lock().unwrap().len() as u64
        }
    }

    fn local(key: KeyRef<'_>) -> LocalKey {
        LocalKey::from(&Key::from_stored_name(
            str::from_utf8(key.as_bytes()).unwrap(),
        ))
    }

    #[test]
    fn key_overwritten_for_ever_leaves_no_growing_trail() {
        let (generations, (clock, hand)) = (Arc::new(Generations::new(64, 1, 1)), Clock::manual());
        let store = Stamped::new(Unbounded::default(), generations.clone(), clock.clone());
        let key = Key::from_stored_name("k:1");
        let life = Life::until(clock.now() + Duration::from_secs(3600));
        let stamp = generations.stamp(key.hash(), LaneIndex(0), PolicyIndex(0));
        for _ in 0..100_000 {
            store.insert(
                &key,
                Entry {
                    value: None,
                    life,
                    stamp,
                    tags: None,
                    weight: 1,
                },
            );
        }
        assert!(store.deadlines.is_crowded(1));
        store.maintain();
        assert!(!store.deadlines.is_crowded(1));
        assert!(store.get(key.as_ref()).is_some());
        hand.advance(Duration::from_secs(3602));
        store.maintain();
        assert!(
            store.is_empty(),
            "a key that was noted anew is found when its time comes"
        );
    }
}
