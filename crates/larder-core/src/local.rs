use std::fmt::Debug;

use crate::{Entry, Key, KeyRef, Phase};

/// An in-process store, the L1: synchronous, bounded, and never waiting for anything.
///
/// An implementation is given the process's [`Generations`](crate::Generations) and a [`Clock`](crate::Clock). Whoever has a bounded
/// concurrent map makes one of it with [`Stamped`](crate::Stamped). `larder-testkit` has the suite that every
/// implementation must pass.
///
/// # Consistency
/// A key is invalidated by advancing its cell and then calling [`remove`](Self::remove). Once that has returned, no
/// entry whose stamp was taken before the advance is served, also if its `insert` was under way or comes later. So
/// `insert` checks the stamp and stores in one step that excludes the key's `remove`, or `get` checks the whole stamp.
pub trait LocalStore: Debug + Send + Sync + 'static {
    /// Returns the key's entry and the phase of its life: before the life's end, while its stamp is current, and while
    /// all its tags are held. An entry that is past any of these is removed.
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)>;

    /// The same for a reader that has looked before and not found it: if there is still nothing, a store that evicts what is
    /// used least does not count this as a further use of the key. This need not be implemented; eviction is then less exact.
    fn get_uncounted(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        self.get(key)
    }

    /// Stores an entry, replacing the key's present one, unless its stamp is out of date.
    fn insert(&self, key: &Key, entry: Entry);

    /// Removes the key's entry.
    fn remove(&self, key: KeyRef<'_>);

    /// Does housekeeping that is due: gives back the memory of expired entries. Called about once a second.
    fn maintain(&self);

    /// How many entries are held, about; expired and invalid ones that have not been met yet count too.
    fn len(&self) -> u64;

    /// Tells whether no entry is held, about.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How much a [`LocalStore`] holds before it evicts what is used least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// At most this many entries, whatever their weight.
    Entries(u64),
    /// At most this sum of the entries' weights.
    Weight(u64),
}
