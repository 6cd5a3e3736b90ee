use std::sync::Arc;

use larder_core::{
    Capacity, Clock, Entry, Generations, KeyRef, LocalKey, LocalMap, Moment, Stamped,
};
#[cfg(feature = "moka")]
use larder_moka::MokaMap;
#[cfg(feature = "quick")]
use larder_quick::QuickMap;

/// The map that keeps L1's entries, see
/// [`LarderBuilder::l1_store`](crate::LarderBuilder::l1_store).
///
/// ```
/// # use larder::{L1Store, Larder};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// let larder = Larder::builder().l1_store(L1Store::default()).build().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1Store {
    /// moka: a new entry enters a full L1 only if it is wanted more often than the entry that it
    /// displaces.
    #[cfg(feature = "moka")]
    #[cfg_attr(docsrs, doc(cfg(feature = "moka")))]
    #[default]
    Moka,
    /// quick_cache: a hit takes a fraction of the time. L1 is divided into shards that are filled
    /// independently, and an entry that is heavier than its shard is not kept.
    #[cfg(feature = "quick")]
    #[cfg_attr(docsrs, doc(cfg(feature = "quick")))]
    #[cfg_attr(not(feature = "moka"), default)]
    Quick,
    /// No map, because neither is compiled in: L1 keeps nothing.
    #[cfg(not(any(feature = "moka", feature = "quick")))]
    #[default]
    None,
}

/// The L1 of a larder. Not a `dyn LocalStore`, so that a hit is inlined into its caller.
pub(crate) type L1 = Stamped<L1Map>;

/// Makes an empty L1.
pub(crate) fn new(
    store: L1Store,
    capacity: Capacity,
    generations: &Arc<Generations>,
    clock: &Clock,
) -> L1 {
    let map = match store {
        #[cfg(feature = "moka")]
        L1Store::Moka => L1Map::Moka(MokaMap::new(capacity)),
        #[cfg(feature = "quick")]
        L1Store::Quick => L1Map::Quick(QuickMap::new(capacity)),
        #[cfg(not(any(feature = "moka", feature = "quick")))]
        L1Store::None => L1Map::None(NoMap(capacity)),
    };
    Stamped::new(map, generations.clone(), clock.clone())
}

/// Any of the maps.
#[derive(Debug)]
pub(crate) enum L1Map {
    #[cfg(feature = "moka")]
    Moka(MokaMap),
    #[cfg(feature = "quick")]
    Quick(QuickMap),
    #[cfg(not(any(feature = "moka", feature = "quick")))]
    None(NoMap),
}

macro_rules! each_map {
    ($any:expr, $map:ident => $call:expr) => {
        match $any {
            #[cfg(feature = "moka")]
            L1Map::Moka($map) => $call,
            #[cfg(feature = "quick")]
            L1Map::Quick($map) => $call,
            #[cfg(not(any(feature = "moka", feature = "quick")))]
            L1Map::None($map) => $call,
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

/// A map that keeps nothing.
#[cfg(not(any(feature = "moka", feature = "quick")))]
#[derive(Debug)]
pub(crate) struct NoMap(#[expect(dead_code, reason = "shown by Debug")] Capacity);

#[cfg(not(any(feature = "moka", feature = "quick")))]
impl LocalMap for NoMap {
    fn get(&self, _: &KeyRef<'_>) -> Option<Entry> {
        None
    }

    fn contains_key(&self, _: &KeyRef<'_>) -> bool {
        false
    }

    fn insert(&self, _: LocalKey, _: Entry) {}

    fn remove(&self, _: KeyRef<'_>) {}

    fn remove_expired(&self, _: KeyRef<'_>, _: Moment) {}

    fn for_each(&self, _: &mut dyn FnMut(LocalKey, &Entry)) {}

    fn run_pending_tasks(&self) {}

    fn len(&self) -> u64 {
        0
    }
}
