use std::fmt;

use larder_core::{Capacity, Entry, KeyRef, LocalKey, LocalMap, Moment, PassThrough, Stamped};
use moka::sync::Cache;

/// A [`LocalStore`](larder_core::LocalStore) on `moka::sync::Cache`.
pub type MokaStore = Stamped<MokaMap>;

/// The map below [`MokaStore`]: moka, bounded by a capacity.
///
/// moka's admission policy decides whether a new entry enters a full map: it must be wanted more
/// often than the entry that it would displace.
pub struct MokaMap(Cache<LocalKey, Entry, PassThrough>);

impl MokaMap {
    /// Makes an empty map.
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    /// use larder_core::{Clock, Generations, LocalStore};
    /// use larder_moka::{Capacity, MokaMap, MokaStore};
    ///
    /// let map = MokaMap::new(Capacity::Weight(64 << 20)); // 64 MiB, if weights are bytes
    /// let store = MokaStore::new(map, Arc::new(Generations::new(1024, 1, 1)), Clock::system());
    /// assert!(store.is_empty());
    /// ```
    pub fn new(capacity: Capacity) -> Self {
        let builder = Cache::builder();
        let builder = match capacity {
            Capacity::Weight(weight) => builder
                .max_capacity(weight)
                .weigher(|_, entry: &Entry| entry.weight),
            Capacity::Entries(entries) => builder.max_capacity(entries),
        };
        Self(builder.build_with_hasher(PassThrough::default()))
    }
}

impl LocalMap for MokaMap {
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
        self.0.invalidate(&key);
    }

    fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
        if self
            .0
            .get(&key)
            .is_some_and(|entry| entry.life.end() <= now)
        {
            self.0.invalidate(&key);
        }
    }

    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
        self.0
            .iter()
            .for_each(|(key, entry)| see((*key).clone(), &entry));
    }

    fn run_pending_tasks(&self) {
        self.0.run_pending_tasks();
    }

    fn len(&self) -> u64 {
        self.0.entry_count()
    }
}

impl fmt::Debug for MokaMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MokaMap")
            .field("entries", &self.0.entry_count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use larder_core::{Clock, Generations, Key, LaneIndex, Life, LocalStore, PolicyIndex};

    use super::*;

    #[test]
    fn full_store_evicts_by_weight() {
        let (generations, clock) = (Arc::new(Generations::new(64, 1, 1)), Clock::system());
        let map = MokaMap::new(Capacity::Weight(1000));
        let store = MokaStore::new(map, generations.clone(), clock.clone());
        for i in 0..100 {
            let key = Key::from_stored_name(&format!("k:{i}"));
            let life = Life::until(clock.now() + Duration::from_secs(60));
            let stamp = generations.stamp(key.hash(), LaneIndex(0), PolicyIndex(0));
            let value = Some(Arc::new(7_u32) as _);
            store.insert(
                &key,
                Entry {
                    value,
                    life,
                    stamp,
                    tags: None,
                    weight: 100,
                },
            );
        }
        store.maintain();
        assert!(store.len() <= 10, "{}", store.len());
    }
}
