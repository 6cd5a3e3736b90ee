use std::fmt;

use larder_core::{Capacity, Entry, KeyRef, LocalKey, LocalMap, Moment, PassThrough, Stamped};
use quick_cache::{
    Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::shards::Shards;

/// A [`LocalStore`](larder_core::LocalStore) on `quick_cache::sync::Cache`.
pub type QuickStore = Stamped<QuickMap>;

/// The map below [`QuickStore`]: quick_cache, bounded by a capacity.
///
/// It is divided into shards, each with its share of the capacity. A shard evicts when it is full,
/// also if another one has room. An entry that is heavier than 97 % of a shard is not kept.
pub struct QuickMap(Cache<LocalKey, Entry, Weights, PassThrough>);

/// The weight of an entry, by the unit of the capacity.
#[derive(Clone, Copy)]
enum Weights {
    Alike,
    Own,
}

impl QuickMap {
    /// Makes an empty map.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use larder_core::{Clock, Generations, LocalStore};
    /// use larder_quick::{Capacity, QuickMap, QuickStore};
    ///
    /// let map = QuickMap::new(Capacity::Weight(64 << 20)); // 64 MiB, if weights are bytes
    /// let store = QuickStore::new(map, Arc::new(Generations::new(1024, 1, 1)), Clock::system());
    /// assert!(store.is_empty());
    /// ```
    pub fn new(capacity: Capacity) -> Self {
        let weights = match capacity {
            Capacity::Entries(_) => Weights::Alike,
            Capacity::Weight(_) => Weights::Own,
        };
        let (options, hasher) = (Shards::of(capacity).options(), PassThrough::default());
        Self(Cache::with_options(
            options,
            weights,
            hasher,
            DefaultLifecycle::default(),
        ))
    }
}

impl Weighter<LocalKey, Entry> for Weights {
    fn weight(&self, _: &LocalKey, entry: &Entry) -> u64 {
        match self {
            Self::Alike => 1,
            // An entry without weight would never be evicted.
            Self::Own => u64::from(entry.weight.max(1)),
        }
    }
}

impl LocalMap for QuickMap {
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
        // quick_cache's own `remove` also forgets that it has evicted the key before. An
        // invalidation does not say that the key is not wanted, so this one keeps that memory.
        self.0.remove_if(&key, |_| true);
    }

    fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
        self.0.remove_if(&key, |entry| entry.life.end() <= now);
    }

    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
        self.0.iter().for_each(|(key, entry)| see(key, &entry));
    }

    fn run_pending_tasks(&self) {} // quick_cache puts nothing off

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl fmt::Debug for QuickMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuickMap")
            .field("entries", &self.0.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use larder_core::{Clock, Generations, Key, LaneIndex, Life, LocalStore, PolicyIndex};

    use super::*;

    struct Filled {
        store: QuickStore,
        generations: Arc<Generations>,
        clock: Clock,
    }

    impl Filled {
        fn new(capacity: Capacity) -> Self {
            let (generations, clock) = (Arc::new(Generations::new(64, 1, 1)), Clock::system());
            let map = QuickMap::new(capacity);
            let store = QuickStore::new(map, generations.clone(), clock.clone());
            Self {
                store,
                generations,
                clock,
            }
        }

        fn insert(&self, key: &str, weight: u32) -> bool {
            let key = Key::from_stored_name(key);
            let life = Life::until(self.clock.now() + Duration::from_secs(60));
            let stamp = self
                .generations
                .stamp(key.hash(), LaneIndex(0), PolicyIndex(0));
            self.store.insert(
                &key,
                Entry {
                    value: None,
                    life,
                    stamp,
                    tags: None,
                    weight,
                },
            );
            self.store.get(key.as_ref()).is_some()
        }
    }

    #[test]
    fn full_store_evicts_by_weight() {
        let filled = Filled::new(Capacity::Weight(1000));
        for i in 0..100 {
            assert!(filled.insert(&format!("k:{i}"), 100));
        }
        assert!(
            (5..=10).contains(&filled.store.len()),
            "{}",
            filled.store.len()
        );
    }

    #[test]
    fn entry_heavier_than_its_shard_leaves_neither_itself_nor_the_older_one() {
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
