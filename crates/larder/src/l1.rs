use std::{ops::Deref, sync::Arc};

use larder_core::{Capacity, Clock, Entry, Generations, KeyRef, LocalStore, Phase};
#[cfg(feature = "moka")]
use larder_moka::{MokaMap, MokaStore};
#[cfg(feature = "quick")]
use larder_quick::{QuickMap, QuickStore};

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
    /// moka: a new entry enters a full L1 only if callers want it more often than the entry that it
    /// displaces.
    #[cfg(feature = "moka")]
    #[cfg_attr(docsrs, doc(cfg(feature = "moka")))]
    #[default]
    Moka,
    /// quick_cache: a hit takes a fraction of moka's time. L1 consists of shards that fill
    /// independently. It does not keep an entry that is heavier than its shard.
    #[cfg(feature = "quick")]
    #[cfg_attr(docsrs, doc(cfg(feature = "quick")))]
    #[cfg_attr(not(feature = "moka"), default)]
    Quick,
    /// No map, because the features `moka` and `quick` are off: L1 keeps nothing.
    #[cfg(not(any(feature = "moka", feature = "quick")))]
    #[default]
    None,
}

/// The L1 of a larder: any of the stores.
#[derive(Debug)]
pub(crate) enum L1 {
    #[cfg(feature = "moka")]
    Moka(MokaStore),
    #[cfg(feature = "quick")]
    Quick(QuickStore),
    #[cfg(not(any(feature = "moka", feature = "quick")))]
    None(NoStore),
}

impl L1 {
    /// Makes an empty L1.
    pub(crate) fn new(
        store: L1Store,
        capacity: Capacity,
        generations: &Arc<Generations>,
        clock: &Clock,
    ) -> Self {
        let (generations, clock) = (generations.clone(), clock.clone());
        match store {
            #[cfg(feature = "moka")]
            L1Store::Moka => Self::Moka(MokaStore::new(MokaMap::new(capacity), generations, clock)),
            #[cfg(feature = "quick")]
            L1Store::Quick => {
                Self::Quick(QuickStore::new(QuickMap::new(capacity), generations, clock))
            }
            #[cfg(not(any(feature = "moka", feature = "quick")))]
            L1Store::None => {
                drop((capacity, generations, clock));
                Self::None(NoStore)
            }
        }
    }

    /// Shows to `see` the entry that [`get`](LocalStore::get) would return. Not a call of the
    /// trait, so that a hit is inlined into its caller.
    #[inline]
    pub(crate) fn look<R>(
        &self,
        key: KeyRef<'_>,
        see: impl FnOnce(&mut Entry, Phase) -> R,
    ) -> Option<R> {
        match self {
            #[cfg(feature = "moka")]
            Self::Moka(store) => store.look(key, see),
            #[cfg(feature = "quick")]
            Self::Quick(store) => store.look(key, see),
            #[cfg(not(any(feature = "moka", feature = "quick")))]
            Self::None(_) => {
                let _ = (key, see);
                None
            }
        }
    }
}

impl Deref for L1 {
    type Target = dyn LocalStore;

    fn deref(&self) -> &Self::Target {
        match self {
            #[cfg(feature = "moka")]
            Self::Moka(store) => store,
            #[cfg(feature = "quick")]
            Self::Quick(store) => store,
            #[cfg(not(any(feature = "moka", feature = "quick")))]
            Self::None(store) => store,
        }
    }
}

/// A store that keeps nothing.
#[cfg(not(any(feature = "moka", feature = "quick")))]
#[derive(Debug)]
pub(crate) struct NoStore;

#[cfg(not(any(feature = "moka", feature = "quick")))]
impl LocalStore for NoStore {
    fn get(&self, _: KeyRef<'_>) -> Option<(Entry, Phase)> {
        None
    }

    fn insert(&self, _: &larder_core::Key, _: Entry) {}

    fn remove(&self, _: KeyRef<'_>) {}

    fn maintain(&self) {}

    fn len(&self) -> u64 {
        0
    }
}
