//! The in-process level, L1: its trait, and how a bounded map becomes an implementation.

pub(crate) mod deadlines;
pub(crate) mod entry;
pub(crate) mod key;
pub(crate) mod stamped;

use std::fmt::Debug;

use self::entry::Entry;
use crate::{
    key::{hash::KeyRef, owned::Key},
    life::Phase,
};

/// An in-process store, the L1: bounded, synchronous, and never waiting for anything.
///
/// An implementation is given the process's [`Generations`](crate::Generations) and a
/// [`Clock`](crate::Clock). [`Stamped`](crate::Stamped) makes one of any bounded concurrent map.
/// `larder-testkit` has the suite that every implementation must pass.
///
/// # Consistency
/// A caller invalidates a key in two steps: bump its generation, then [`remove`](Self::remove) it.
/// Once `remove` has returned, the store serves no entry with an older stamp, also if its `insert`
/// was under way or comes later. There are two ways to do that: `insert` checks the stamp and
/// stores the entry under a lock that the key's `remove` takes too, or `get` checks the whole
/// stamp.
pub trait LocalStore: Debug + Send + Sync + 'static {
    /// Returns the key's entry and its phase.
    ///
    /// The entry must be within its life, its stamp current, and all its tags pinned. The store
    /// removes an entry that fails one of these checks.
    fn get(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)>;

    /// Like [`get`](Self::get), for a caller that has looked before and found nothing.
    ///
    /// A store that evicts the least used entries should not count this second miss as a use of the
    /// key. The default implementation counts it, which makes eviction less exact.
    fn get_uncounted(&self, key: KeyRef<'_>) -> Option<(Entry, Phase)> {
        self.get(key)
    }

    /// Stores an entry in place of the key's present one, unless its stamp is outdated.
    fn insert(&self, key: &Key, entry: Entry);

    /// Removes the key's entry.
    fn remove(&self, key: KeyRef<'_>);

    /// Does the housekeeping that is due, such as freeing expired entries. Called once a second.
    fn maintain(&self);

    /// The approximate number of entries, expired and outdated ones included.
    fn len(&self) -> u64;

    /// Tells whether the store is empty, approximately.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The amount that a [`LocalStore`] holds before it evicts the entries that are used least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// At most this many entries, whatever their weight.
    Entries(u64),
    /// At most this sum of the entries' weights.
    Weight(u64),
}
