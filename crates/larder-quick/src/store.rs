use std::sync::Arc;

use larder_core::{
    Capacity, Clock, Entry, Generations, Key, KeyRef, LocalKey, LocalMap, LocalStore, Moment, PassThrough,
    Phase, Stamped,
};
use quick_cache::{
    Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::parts::Parts;

/// A [`LocalStore`] on `quick_cache::sync::Cache`.
///
/// It is divided into parts, each with its share of the capacity. A part evicts when it is full, also if another has
/// room; an entry that is heavier than 97 % of a part is not kept.
#[derive(Debug)]
pub struct QuickStore(Stamped<Map>);

impl QuickStore {
    /// Makes an empty store. Its users must advance these cells and read this clock.
    pub fn new(capacity: Capacity, generations: Arc<Generations>, clock: Clock) -> Self {
        let weights = match capacity {
            Capacity::Entries(_) => Weights::Alike,
            Capacity::Weight(_) => Weights::Own,
        };
        let options = Parts::of(capacity).options();
        let map = Cache::with_options(options, weights, PassThrough::default(), DefaultLifecycle::default());
        Self(Stamped::new(Map(map), generations, clock))
    }

    /// Looks at what `get` returns without moving it, see [`Stamped::look`].
    #[inline]
    pub fn look<R>(&self, key: KeyRef<'_>, see: impl FnOnce(&mut Entry, Phase) -> R) -> Option<R> {
        self.0.look(key, see)
    }
}

impl LocalStore for QuickStore {
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        self.0.get(key)
    }

    fn get_uncounted(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        self.0.get_uncounted(key)
    }

    fn insert(&self, key: &Key, entry: Entry) {
        self.0.insert(key, entry);
    }

    fn remove(&self, key: KeyRef<'_>) {
        self.0.remove(key);
    }

    fn maintain(&self) {
        self.0.maintain();
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}

struct Map(Cache<LocalKey, Entry, Weights, PassThrough>);

#[derive(Clone, Copy)]
enum Weights {
    Alike,
    Own,
}

impl Weighter<LocalKey, Entry> for Weights {
    fn weight(&self, _: &LocalKey, entry: &Entry) -> u64 {
        match self {
            Self::Alike => 1,
            // What weighs nothing would never be evicted.
            Self::Own => u64::from(entry.weight.max(1)),
        }
    }
}

impl LocalMap for Map {
    #[inline]
    fn get(&self, key: &KeyRef<'_>) -> Option<Entry> {
        self.0.get(key)
    }

    fn contains_key(&self, key: &KeyRef<'_>) -> bool {
        self.0.contains_key(key)
    }

    fn insert(&self, key: LocalKey, entry: Entry) {
        self.0.insert(key, entry);
    }

    fn remove(&self, key: KeyRef<'_>) {
        // Unlike `remove`, this leaves what the map remembers of a key that it has evicted: an invalidation does not say that
        // nobody wants the key.
        self.0.remove_if(&key, |_| true);
    }

    fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
        self.0.remove_if(&key, |entry| entry.life.end() <= now);
    }

    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
        self.0.iter().for_each(|(key, entry)| see(key, &entry));
    }

    fn run_pending_tasks(&self) {} // it puts nothing off

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_core::Life;

    use super::*;

    struct Filled {
        store: QuickStore,
        generations: Arc<Generations>,
        clock: Clock,
    }

    impl Filled {
        fn new(capacity: Capacity) -> Self {
            let (generations, clock) = (Arc::new(Generations::new(64, 1, 1)), Clock::system());
            Self { store: QuickStore::new(capacity, generations.clone(), clock.clone()), generations, clock }
        }

        fn insert(&self, key: &str, weight: u32) -> bool {
            let key = Key::from_stored_name(key);
            let life = Life::until(self.clock.now() + Duration::from_secs(60));
            let stamp = self.generations.stamp(key.hash(), 0, 0);
            self.store.insert(&key, Entry { value: None, life, stamp, tags: None, weight });
            self.store.get(key.as_ref()).is_some()
        }
    }

    #[test]
    fn full_store_evicts_by_weight() {
        let filled = Filled::new(Capacity::Weight(1000));
        for i in 0..100 {
            assert!(filled.insert(&format!("k:{i}"), 100));
        }
        assert!((5..=10).contains(&filled.store.len()), "{}", filled.store.len());
    }

    #[test]
    fn entry_heavier_than_its_part_leaves_neither_itself_nor_the_older_one() {
        let filled = Filled::new(Capacity::Weight(1000));
        assert!(filled.insert("k", 100));
        assert!(!filled.insert("k", 2000));
        assert_eq!(filled.store.len(), 0);
    }

    #[test]
    fn weightless_entries_are_bounded_too() {
        let filled = Filled::new(Capacity::Weight(1000));
        (0..10_000).for_each(|i| {
            filled.insert(&format!("k:{i}"), 0);
        });
        assert!(filled.store.len() <= 1000);
    }
}
