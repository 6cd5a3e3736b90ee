use async_trait::async_trait;

/// An outbox in the application's own database: the keys that have yet to be invalidated.
///
/// A write records one [`OutboxEntry`] for each key that it outdates, **in the transaction that
/// changes the data**. Once the transaction has committed, any process can find the entry and
/// invalidate the key, also if the writer's process dies. When the key is gone from the remote
/// store, larder confirms the entry, and the application may delete it.
///
/// # Errors
/// Any error of the database. larder hands it on, and tries unconfirmed entries again.
///
/// # Examples
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
/// use larder_core::{Outbox, OutboxEntry, OutboxError};
///
/// /// Stands for a table: an id that the database counts up, and a key.
/// #[derive(Default)]
/// struct Table(Mutex<BTreeMap<i64, String>>);
///
/// #[async_trait::async_trait]
/// impl Outbox for Table {
///     async fn unconfirmed(
///         &self,
///         after: i64,
///         limit: usize,
///     ) -> Result<Vec<OutboxEntry>, OutboxError> {
///         let table = self.0.lock().unwrap();
///         let later = table.iter().filter(|(id, _)| **id > after).take(limit);
///         Ok(later.map(|(id, key)| OutboxEntry { id: *id, key: key.clone() }).collect())
///     }
///
///     async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError> {
///         self.0.lock().unwrap().retain(|id, _| !ids.contains(id));
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Returns the first `limit` unconfirmed entries with ids larger than `after`, in their order.
    ///
    /// It must return committed entries only. An id may appear later than a larger one, as with a
    /// sequence: every drain begins again at the smallest id.
    async fn unconfirmed(&self, after: i64, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError>;

    /// Forgets these entries, and no others.
    ///
    /// Select them by their ids, never by their keys: while larder invalidated a key, a later write
    /// may have recorded a newer entry for it. A missing id is no error, because another process
    /// may have been faster.
    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError>;
}

/// An error of an outbox: any error of the application.
pub type OutboxError = Box<dyn std::error::Error + Send + Sync>;

/// A record that a key must be invalidated, because a write behind it has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The entry's own number. It is never used again, also after the entry is gone.
    pub id: i64,
    /// The key's whole text as it stands in the store: [`Key::to_string`](crate::Key).
    pub key: String,
}
