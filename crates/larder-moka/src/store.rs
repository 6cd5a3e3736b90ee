use std::sync::Arc;

use larder_core::{
    Capacity, Clock, Entry, Generations, Key, KeyRef, LocalKey, LocalMap, LocalStore, Moment, PassThrough,
    Phase, Stamped,
};
use moka::sync::Cache;

/// A [`LocalStore`] on `moka::sync::Cache`.
#[derive(Debug)]
pub struct MokaStore(Stamped<Map>);

impl MokaStore {
    /// Makes an empty store. Its users must advance these cells and read this clock.
    pub fn new(capacity: Capacity, generations: Arc<Generations>, clock: Clock) -> Self {
        let builder = Cache::builder();
        let builder = match capacity {
            Capacity::Weight(weight) => builder.max_capacity(weight).weigher(|_, entry: &Entry| entry.weight),
            Capacity::Entries(entries) => builder.max_capacity(entries),
        };
        Self(Stamped::new(Map(builder.build_with_hasher(PassThrough::default())), generations, clock))
    }

    /// Looks at what `get` returns without moving it, see [`Stamped::look`].
    #[inline]
    pub fn look<R>(&self, key: KeyRef<'_>, see: impl FnOnce(&mut Entry, Phase) -> R) -> Option<R> {
        self.0.look(key, see)
    }
}

impl LocalStore for MokaStore {
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

struct Map(Cache<LocalKey, Entry, PassThrough>);

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
        self.0.invalidate(&key);
    }

    fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
        if self.0.get(&key).is_some_and(|entry| entry.life.end() <= now) {
            self.0.invalidate(&key);
        }
    }

    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
        self.0.iter().for_each(|(key, entry)| see((*key).clone(), &entry));
    }

    fn run_pending_tasks(&self) {
        self.0.run_pending_tasks();
    }

    fn len(&self) -> u64 {
        self.0.entry_count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_core::Life;

    use super::*;

    #[test]
    fn full_store_evicts_by_weight() {
        let (generations, clock) = (Arc::new(Generations::new(64, 1, 1)), Clock::system());
        let store = MokaStore::new(Capacity::Weight(1000), generations.clone(), clock.clone());
        for i in 0..100 {
            let key = Key::from_stored_name(format!("k:{i}").as_str());
            let life = Life::until(clock.now() + Duration::from_secs(60));
            let stamp = generations.stamp(key.hash(), 0, 0);
            store.insert(&key, Entry { value: Some(Arc::new(7_u32)), life, stamp, tags: None, weight: 100 });
        }
        store.maintain();
        assert!(store.len() <= 10, "{}", store.len());
    }
}
