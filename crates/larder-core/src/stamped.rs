use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Clock, Entry, Generations, Key, KeyRef, LocalKey, LocalStore, Moment, Phase, deadlines::Deadlines,
};

/// A [`LocalStore`] made of a bounded map: the stamps, lives and tags of its entries are judged here, so that they are
/// judged alike on every map.
///
/// An entry's stamp is checked when it is stored, and its life, its tags and the rest of its stamp at every read, against
/// the clock and the cells that the store was made with. The memory of expired entries comes back within a second or
/// two of [`maintain`](LocalStore::maintain) being called.
pub struct Stamped<M> {
    map: M,
    generations: Arc<Generations>,
    clock: Clock,
    deadlines: Deadlines,
    changes: [Mutex<()>; CHANGES],
}

/// A bounded concurrent map that knows nothing of lives and stamps, and evicts by itself what is used least.
///
/// # Consistency
/// When `insert` has returned, a `get` or `remove` that begins later finds the entry, unless it was evicted; when
/// `remove` has returned, no `get` that begins later does.
pub trait LocalMap: Send + Sync + 'static {
    /// Returns a copy of the key's entry.
    fn get(&self, key: &KeyRef<'_>) -> Option<Entry>;

    /// Tells whether the map has an entry for the key. Nobody uses it by that, so nothing is kept for longer.
    fn contains_key(&self, key: &KeyRef<'_>) -> bool;

    /// Stores an entry, replacing the key's present one. If there is no room for it, neither is held.
    fn insert(&self, key: LocalKey, entry: Entry);

    /// Removes the key's entry.
    fn remove(&self, key: KeyRef<'_>);

    /// Removes the key's entry if its life is over at this moment. It may be that a newer one is removed instead.
    fn remove_expired(&self, key: KeyRef<'_>, now: Moment);

    /// Shows each entry. One that comes or goes meanwhile may be shown or not.
    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry));

    /// Does what the map has put off.
    fn run_pending_tasks(&self);

    /// How many entries are held, about.
    fn len(&self) -> u64;
}

/// How many keys can be changed at once; a power of two.
const CHANGES: usize = 64;

impl<M: LocalMap> Stamped<M> {
    /// Makes a store of an empty map. Its users must advance these cells and read this clock.
    pub fn new(map: M, generations: Arc<Generations>, clock: Clock) -> Self {
        let changes = std::array::from_fn(|_| Mutex::default());
        Self { map, generations, deadlines: Deadlines::new(clock.now()), clock, changes }
    }

    /// Looks at what [`get`](LocalStore::get) returns, which `see` may take to pieces. It is not moved for that: a hit
    /// that moves an entry waits for each of its parts to arrive in memory.
    #[inline]
    pub fn look<R>(&self, key: KeyRef<'_>, see: impl FnOnce(&mut Entry, Phase) -> R) -> Option<R> {
        // Before the look, which waits for memory, so that the one is done while the other waits.
        let now = self.clock.now();
        let mut found = self.map.get(&key);
        let entry = found.as_mut()?;
        // P2 only-current-is-served: at every read. The key's own cell was checked when the entry was stored, and what has been invalidated
        // since is not here any more: so a hit does not fetch a cell from memory.
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
        let index = (key.hash() >> 32) as usize % CHANGES;
        // It guards nothing that a panic could leave half-done.
        self.changes[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: LocalMap> LocalStore for Stamped<M> {
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        self.look(key, |entry, phase| {
            (Entry { value: entry.value.take(), tags: entry.tags.take(), ..*entry }, phase)
        })
    }

    fn get_uncounted(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        if self.map.contains_key(&key) { self.get(key) } else { None }
    }

    fn insert(&self, key: &Key, entry: Entry) {
        let (local, end) = (LocalKey::from(key), entry.life.end());
        let noted = local.clone();
        let change = self.change(key.as_ref());
        // P2 only-current-is-served: under the lock that `remove` takes. If the key's cell is advanced after this look, the removal that
        // follows the advance finds the entry.
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
            self.map.for_each(&mut |key, entry| self.deadlines.note(key, entry.life.end()));
        }
    }

    fn len(&self) -> u64 {
        self.map.len()
    }
}

impl<M: LocalMap> fmt::Debug for Stamped<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamped").field("entries", &self.map.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;
    use crate::{Life, PassThrough};

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
            self.0.lock().unwrap().retain(|held, entry| *held != local(key) || entry.life.end() > now);
        }

        fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
            self.0.lock().unwrap().iter().for_each(|(key, entry)| see(key.clone(), entry));
        }

        fn run_pending_tasks(&self) {}

        fn len(&self) -> u64 {
            self.0.lock().unwrap().len() as u64
        }
    }

    fn local(key: KeyRef<'_>) -> LocalKey {
        LocalKey::from(&Key::from_stored_name(str::from_utf8(key.as_bytes()).unwrap()))
    }

    #[test]
    fn key_overwritten_for_ever_leaves_no_growing_trail() {
        let (generations, (clock, hand)) = (Arc::new(Generations::new(64, 1, 1)), Clock::manual());
        let store = Stamped::new(Unbounded::default(), generations.clone(), clock.clone());
        let key = Key::from_stored_name("k:1");
        let life = Life::until(clock.now() + Duration::from_secs(3600));
        let stamp = generations.stamp(key.hash(), 0, 0);
        for _ in 0..100_000 {
            store.insert(&key, Entry { value: None, life, stamp, tags: None, weight: 1 });
        }
        assert!(store.deadlines.is_crowded(1));
        store.maintain();
        assert!(!store.deadlines.is_crowded(1));
        assert!(store.get(key.as_ref()).is_some());
        hand.advance(Duration::from_secs(3602));
        store.maintain();
        assert!(store.is_empty(), "what was noted anew is found when its time comes");
    }
}
