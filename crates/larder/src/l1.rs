use std::sync::Arc;

use larder_core::{Capacity, Clock, Entry, Generations, KeyRef, LocalKey, LocalMap, Moment, Stamped};
use larder_moka::MokaMap;
#[cfg(feature = "quick")]
use larder_quick::QuickMap;

/// The map that keeps L1's entries, see [`LarderBuilder::l1_store`](crate::LarderBuilder::l1_store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1Store {
    /// moka: a new entry enters a full L1 only if it is wanted more often than the entry that it
    /// displaces.
    #[default]
    Moka,
    /// quick_cache: a hit takes a fraction of the time. L1 is divided into shards that are filled
    /// independently, and an entry that is heavier than its shard is not kept.
    #[cfg(feature = "quick")]
    Quick,
}

/// The L1 of a larder. Not a `dyn LocalStore`, so that a hit is inlined into its caller.
pub(crate) type L1 = Stamped<L1Map>;

/// Makes an empty L1.
pub(crate) fn new(store: L1Store, capacity: Capacity, generations: &Arc<Generations>, clock: &Clock) -> L1 {
    let map = match store {
        L1Store::Moka => L1Map::Moka(MokaMap::new(capacity)),
        #[cfg(feature = "quick")]
        L1Store::Quick => L1Map::Quick(QuickMap::new(capacity)),
    };
    Stamped::new(map, generations.clone(), clock.clone())
}

/// Any of the maps.
#[derive(Debug)]
pub(crate) enum L1Map {
    Moka(MokaMap),
    #[cfg(feature = "quick")]
    Quick(QuickMap),
}

macro_rules! each_map {
    ($any:expr, $map:ident => $call:expr) => {
        match $any {
            L1Map::Moka($map) => $call,
            #[cfg(feature = "quick")]
            L1Map::Quick($map) => $call,
        }
    };
}

impl LocalMap for L1Map {
    #[inline]
    fn get(&self, key: &KeyRef<'_>) -> Option<Entry> {
        each_map!(self, map => map.get(key))
    }

    fn contains_key(&self, key: &KeyRef<'_>) -> bool {
        each_map!(self, map => map.contains_key(key))
    }

    fn insert(&self, key: LocalKey, entry: Entry) {
        each_map!(self, map => map.insert(key, entry));
    }

    fn remove(&self, key: KeyRef<'_>) {
        each_map!(self, map => map.remove(key));
    }

    fn remove_expired(&self, key: KeyRef<'_>, now: Moment) {
        each_map!(self, map => map.remove_expired(key, now));
    }

    fn for_each(&self, see: &mut dyn FnMut(LocalKey, &Entry)) {
        each_map!(self, map => map.for_each(see));
    }

    fn run_pending_tasks(&self) {
        each_map!(self, map => map.run_pending_tasks());
    }

    fn len(&self) -> u64 {
        each_map!(self, map => map.len())
    }
}
