use std::{any::Any, fmt, sync::Arc};

use crate::{Life, Stamp, TagStamp};

/// A cached value of any type, shared by all who were served it.
pub type AnyValue = Arc<dyn Any + Send + Sync>;

/// What a [`LocalStore`](crate::LocalStore) holds for a key.
#[derive(Clone)]
pub struct Entry {
    /// The value, or `None` for a key that is known to be absent.
    pub value: Option<AnyValue>,
    /// How long the entry may be served, and as what.
    pub life: Life,
    /// The generations of the entry's cells before its value was read or loaded.
    pub stamp: Stamp,
    /// The entry's tags, if it has any.
    pub tags: Option<Arc<TagStamp>>,
    /// What the entry counts against the store's capacity; the unit is the store's.
    pub weight: u32,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("absent", &self.value.is_none())
            .field("life", &self.life)
            .field("stamp", &self.stamp)
            .field("tags", &self.tags)
            .field("weight", &self.weight)
            .finish()
    }
}
