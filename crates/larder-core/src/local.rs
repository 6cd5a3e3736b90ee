use std::fmt::Debug;

use crate::{Entry, Key, KeyRef};

/// An in-process store, the L1: synchronous, bounded, and never waiting for anything.
///
/// An implementation is given the process's [`Cells`](crate::Cells) and a [`Clock`](crate::Clock). It serves an
/// entry only before its deadline and while its stamp is current, and removes an entry that it finds invalid.
/// `larder-testkit` has the suite that every implementation must pass.
pub trait LocalStore: Debug + Send + Sync + 'static {
    /// Returns the key's entry if it may be served.
    fn get(&self, key: KeyRef<'_>) -> Option<Entry>;

    /// Stores an entry, replacing the key's present one.
    ///
    /// An entry whose stamp is already out of date may be stored or not: it is never served.
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
