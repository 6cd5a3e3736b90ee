use std::{any::Any, fmt, sync::Arc};

use crate::{generations::Stamp, life::Life, tags::TagStamp};

/// A cached value of any type, shared by all callers that it was served to.
pub type AnyValue = Arc<dyn Any + Send + Sync>;

/// A value in a [`LocalStore`](crate::LocalStore), with all that decides whether it may be served.
#[derive(Clone)]
pub struct Entry {
    /// The value, or `None` for a key that is known to be absent.
    pub value: Option<AnyValue>,
    /// How long the entry may be served, and in which phase.
    pub life: Life,
    /// The generations from before the value was read or loaded.
    pub stamp: Stamp,
    /// The entry's tags, if it has any.
    pub tags: Option<Arc<TagStamp>>,
    /// The entry's share of the store's capacity, in the store's unit.
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
