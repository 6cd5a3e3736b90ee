use std::sync::Arc;

use larder_core::{Capacity, Clock, Entry, Generations, Key, KeyRef, LocalStore, Phase};
use larder_moka::MokaStore;
#[cfg(feature = "quick")]
use larder_quick::QuickStore;

/// What keeps L1's entries, see [`LarderBuilder::l1_store`](crate::LarderBuilder::l1_store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum L1Store {
    /// moka: what enters a full L1 must be wanted more often than what it displaces.
    #[default]
    Moka,
    /// quick_cache: a hit takes a fraction of the time. L1 is divided into parts that are filled independently, and what is
    /// heavier than a part is not kept.
    #[cfg(feature = "quick")]
    Quick,
}

/// The L1 of a larder. Not a `dyn LocalStore`, so that a hit is inlined into its caller.
#[derive(Debug)]
pub(crate) enum L1 {
    Moka(MokaStore),
    #[cfg(feature = "quick")]
    Quick(QuickStore),
}

macro_rules! each_store {
    ($l1:expr, $store:ident => $call:expr) => {
        match $l1 {
            L1::Moka($store) => $call,
            #[cfg(feature = "quick")]
            L1::Quick($store) => $call,
        }
    };
}

impl L1 {
    pub(crate) fn new(
        store: L1Store,
        capacity: Capacity,
        generations: &Arc<Generations>,
        clock: &Clock,
    ) -> Self {
        match store {
            L1Store::Moka => Self::Moka(MokaStore::new(capacity, generations.clone(), clock.clone())),
            #[cfg(feature = "quick")]
            L1Store::Quick => Self::Quick(QuickStore::new(capacity, generations.clone(), clock.clone())),
        }
    }

    /// Looks at what `get` returns without moving it.
    #[inline]
    pub(crate) fn look<R>(&self, key: KeyRef<'_>, see: impl FnOnce(&mut Entry, Phase) -> R) -> Option<R> {
        each_store!(self, store => store.look(key, see))
    }
}

impl LocalStore for L1 {
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        each_store!(self, store => store.get(key))
    }

    fn get_uncounted(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        each_store!(self, store => store.get_uncounted(key))
    }

    fn insert(&self, key: &Key, entry: Entry) {
        each_store!(self, store => store.insert(key, entry));
    }

    fn remove(&self, key: KeyRef<'_>) {
        each_store!(self, store => store.remove(key));
    }

    fn maintain(&self) {
        each_store!(self, store => store.maintain());
    }

    fn len(&self) -> u64 {
        each_store!(self, store => store.len())
    }
}
