use std::{sync::Arc, time::Duration};

use larder_core::{CodecError, KeyError, StoreError};
use larder_ttl::TableError;

/// The application's own error, as its loader or writer returned it.
pub type SharedError = Arc<dyn std::error::Error + Send + Sync>;

/// Why a call did not do what it was asked. Cheap to clone: all who waited for a load get the same one.
///
/// Redis being out of reach is not among the reasons why a read fails: the read is then served by its loader.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loader failed. Nothing was cached; the next call loads again.
    #[error("the load failed")]
    Load(#[source] SharedError),
    /// The loader or writer panicked. Nothing was cached.
    #[error("the load or write of {key} panicked")]
    Panicked {
        /// The key, with its prefix.
        key: String,
    },
    /// The loader took longer than the policy's `load_timeout` and was given up. Nothing was cached.
    #[error("the load of {key} took longer than {after:?}: make it faster, or raise the row's load_timeout")]
    LoadTimedOut {
        /// The key, with its prefix.
        key: String,
        /// The policy's `load_timeout`.
        after: Duration,
    },
    /// As many loads as the policy's `max_loads` allows were under way all the time, and this one was not begun.
    #[error(
        "the load of {key} waited {waited:?} for others to end: raise the row's max_loads or max_wait, or load less"
    )]
    TooManyLoads {
        /// The key, with its prefix.
        key: String,
        /// The policy's `max_wait`.
        waited: Duration,
    },
    /// The loader or writer says "not modified", but there is no entry that could be kept. Nothing was cached.
    #[error("{key} has no entry that could be kept: answer not_modified() only if get_or_reload shows one")]
    NothingToKeep {
        /// The key, with its prefix.
        key: String,
    },
    /// The task that ran the load or write was dropped, as when the runtime shuts down. A write may have reached the
    /// database.
    #[error("the load or write of {key} was given up: the runtime is shutting down")]
    Aborted {
        /// The key, with its prefix.
        key: String,
    },
    /// The key is known to be absent; ask for it with `get_or_load_optional`.
    #[error("{key} is remembered to be absent")]
    Absent {
        /// The key, with its prefix.
        key: String,
    },
    /// The writer failed. The entry was invalidated, because a failed write can still have reached the database.
    #[error("the write failed")]
    Write(#[source] SharedError),
    /// Other writers of the key held its lease all the time. The database was not touched.
    #[error("{key} was still being written by others after {waited:?}: try again")]
    WriteBusy {
        /// The key, with its prefix.
        key: String,
        /// The policy's `max_wait`.
        waited: Duration,
    },
    /// The database was written, but the old value could not be removed from L2, where it stays until its TTL ends.
    #[error("{key} was written, but its old value could not be invalidated: invalidate it again")]
    NotInvalidated {
        /// The key, with its prefix.
        key: String,
        /// What the store said.
        source: StoreError,
    },
    /// No store can be asked for this key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A tag cannot be used.
    #[error("the tag {tag:?} cannot be used: {problem}")]
    Tag {
        /// The tag, or its beginning.
        tag: String,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// The value's encoded form is larger than the limit; it was not sent.
    #[error("the value of {key} has {size} bytes, more than {limit}: raise max_value_size or cache less")]
    ValueTooLarge {
        /// The key, with its prefix.
        key: String,
        /// The encoded size, in bytes.
        size: usize,
        /// The builder's `max_value_size`, in bytes.
        limit: usize,
    },
    /// The value cannot be encoded.
    #[error("the value of {key} cannot be encoded")]
    Encode {
        /// The key, with its prefix.
        key: String,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The TTL table has no such policy.
    #[error("the TTL table has no row {name:?}; it has {known}")]
    NoSuchPolicy {
        /// The name that was asked for.
        name: String,
        /// The policies that there are.
        known: String,
    },
    /// The policy is in use with another type; two types never share entries.
    #[error("the row {name:?} holds {held}, not {asked}: give the other type a row of its own")]
    PolicyType {
        /// The policy.
        name: String,
        /// The type that it was first asked for with.
        held: &'static str,
        /// The type that it is asked for with now.
        asked: &'static str,
    },
    /// The TTL table is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The outbox could not be read, or what was done could not be confirmed and will be done again.
    #[error("the outbox failed")]
    Outbox(#[source] SharedError),
    /// The remote store did not do its part, in a call that cannot do without it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The call was made outside a tokio runtime. Nothing was done.
    #[error("there is no tokio runtime here: build and call the larder inside one")]
    NoRuntime,
}
