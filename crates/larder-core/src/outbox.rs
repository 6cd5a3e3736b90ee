use async_trait::async_trait;

/// What keeps, in the application's own database, which keys have yet to be invalidated: an outbox.
///
/// A write records one [`OutboxEntry`] for each key that it makes out of date, **in the transaction that changes the data**.
/// Once that has committed, the intent says that the key must be invalidated, whatever becomes of the process that was
/// about to do it. It is confirmed, and may be deleted, when the key is gone from the shared store.
///
/// # Errors
/// Whatever the database says; it is handed on, and what was not confirmed is tried again.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// The first `limit` unconfirmed intents whose ids are larger than `after`, in the order of their ids. Only what is
    /// committed may be among them. That an id may turn up later than a larger one, as those of a sequence do, is fine:
    /// every replay begins anew with the smallest.
    async fn unconfirmed(&self, after: i64, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError>;

    /// Forgets these intents, and no others.
    ///
    /// By their ids, never by their keys: while a key was being invalidated, a later write may have recorded a newer
    /// intent for it, and what was read since that write began may still have to go. An id that is not there any more
    /// is no error: another process was faster.
    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError>;
}

/// What an outbox fails with: any error.
pub type OutboxError = Box<dyn std::error::Error + Send + Sync>;

/// A record that a key must be invalidated, because a write behind it has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    /// Names the intent, and no other one, ever: such as a number that the table counts up, without using one again.
    pub id: i64,
    /// The key's whole text as it stands in the store: [`Key::to_string`](crate::Key).
    pub key: String,
}
