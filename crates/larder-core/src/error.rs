use std::{error::Error, sync::Arc, time::Duration};

/// The reason why a call of a [`RemoteStore`](crate::RemoteStore) failed.
///
/// Messages carry addresses and keys, never passwords or values.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The address cannot be used at all.
    #[error("{address} is not an address of a remote store: {problem}")]
    Address {
        /// The address, without its password.
        address: String,
        /// The mistake in it, and the remedy.
        problem: String,
    },
    /// The namespace cannot stand in front of the store's keys.
    #[error("the namespace {namespace:?} cannot be used: {problem}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// The mistake in it, and the characters that are allowed.
        problem: String,
    },
    /// Nothing answers at the address, or the connection was lost and is not back yet.
    #[error("the remote store at {address} cannot be reached")]
    Unreachable {
        /// The address, without its password.
        address: String,
        /// The error of the connection.
        source: Option<Arc<dyn Error + Send + Sync>>,
    },
    /// The server refused the user name or password.
    #[error("the remote store at {address} refused the user name or password")]
    Unauthorized {
        /// The address, without its password.
        address: String,
    },
    /// The server answers, and cannot be used: it is none that holds a cache, or the user lacks
    /// what a cache needs.
    #[error("the remote store at {address} cannot be used: {problem}")]
    Unfit {
        /// The address, without its password.
        address: String,
        /// The reason, which names all that is missing.
        problem: String,
    },
    /// The server did not answer in time. The call may have taken effect, or still may.
    #[error("the remote store at {address} did not answer within {after:?}")]
    TimedOut {
        /// The address, without its password.
        address: String,
        /// The limit that passed.
        after: Duration,
    },
    /// The key holds something that is not a string, so it was not written by a cache.
    #[error("the key {key} holds a value of another type: delete it, or choose another prefix")]
    WrongType {
        /// The key as it stands in the store.
        key: String,
    },
    /// The server refused the command, for example because it is out of memory or read-only.
    #[error("the remote store at {address} refused: {reason}")]
    Refused {
        /// The address, without its password.
        address: String,
        /// The server's own words.
        reason: String,
    },
    /// An invalidation could be neither sent nor remembered, because too many are unsent already.
    #[error(
        "the remote store at {address} is out of reach, and {unsent} invalidations are unsent already"
    )]
    TooManyUnsent {
        /// The address, without its password.
        address: String,
        /// The number of unsent keys.
        unsent: usize,
    },
}
