use std::{fmt, ops::Deref, sync::Arc, time::Duration};

use larder_core::{CodecError, KeyError, StoreError};
use larder_lock::Cycle;
use larder_ttl::TableError;

use crate::value::BoxError;

/// The reason why a call failed. Cheap to clone: all callers that wait for one load get the same
/// error.
///
/// An outage of Redis does not make a read with a loader fail, unless the policy says `on_outage =
/// "fail"`: the loader serves it.
///
/// [`source`](std::error::Error::source) returns the loader's own error, so that `anyhow`'s chain
/// finds it. [`load_error`](Self::load_error) returns that error as the loader's own type:
///
/// ```
/// # use std::io;
/// # use larder::{Error, Larder};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
/// let failed = users
///     .get_or_load(42, || async { Err::<String, _>(io::Error::other("the database is down")) })
///     .await
///     .unwrap_err();
///
/// assert_eq!(failed.to_string(), "the load of user:42 failed");
/// assert_eq!(failed.key(), Some("user:42"));
/// assert_eq!(failed.load_error::<io::Error>().unwrap().to_string(), "the database is down");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The loader failed. Nothing was cached; the next call loads again.
    #[error("the load of {key} failed")]
    #[non_exhaustive]
    Load {
        /// The key, with its prefix.
        key: String,
        /// The error that the loader returned.
        source: SharedError,
    },
    /// The loader or writer panicked. Nothing was cached.
    #[error("the load or write of {key} panicked")]
    #[non_exhaustive]
    Panicked {
        /// The key, with its prefix.
        key: String,
    },
    /// The loader took longer than the policy's `load_timeout` and was cancelled. Nothing was
    /// cached.
    #[error(
        "the load of {key} took longer than {after:?}: make it faster, or raise the policy's load_timeout"
    )]
    #[non_exhaustive]
    LoadTimedOut {
        /// The key, with its prefix.
        key: String,
        /// The limit that passed: the policy's `load_timeout`. For a caller that waited for other
        /// loads before this one, `load_timeout` and `max_wait` together.
        after: Duration,
    },
    /// The policy's `max_loads` was reached for all of its `max_wait`. This load did not start.
    #[error(
        "the load of {key} waited {waited:?} for other loads to end: raise the policy's max_loads or max_wait, or load less"
    )]
    #[non_exhaustive]
    TooManyLoads {
        /// The key, with its prefix.
        key: String,
        /// The policy's `max_wait`.
        waited: Duration,
    },
    /// A loader or writer called the larder again, and that call would have waited for the loader
    /// or writer itself. It ended at once.
    #[error(
        "a loader or writer would wait for itself at {key} ({cycle}): let none ask for a key that waits for it"
    )]
    #[non_exhaustive]
    Deadlock {
        /// The key that was asked for, with its prefix.
        key: String,
        /// The keys that wait for each other, from one back to itself: `user:1 → team:7 → user:1`.
        cycle: String,
    },
    /// The loader or writer answered "not modified", but there is no entry to keep. Nothing was
    /// cached.
    #[error(
        "{key} has no entry to keep: answer not_modified() only if get_or_revalidate passes a previous value"
    )]
    #[non_exhaustive]
    NothingToKeep {
        /// The key, with its prefix.
        key: String,
    },
    /// The runtime shut down and dropped the task of the load or write. A write may have reached
    /// the database.
    #[error("the load or write of {key} was dropped: the runtime is shutting down")]
    #[non_exhaustive]
    Aborted {
        /// The key, with its prefix.
        key: String,
    },
    /// The database has no such value; `find` and `find_or_load` return `None` instead.
    #[error("{key} has no value: ask for a value that may not exist with find_or_load")]
    #[non_exhaustive]
    Absent {
        /// The key, with its prefix.
        key: String,
    },
    /// The writer failed. The cache invalidated the entry, because a failed write can still have
    /// reached the database.
    #[error("the write of {key} failed")]
    #[non_exhaustive]
    Write {
        /// The key, with its prefix.
        key: String,
        /// The error that the writer returned.
        source: SharedError,
    },
    /// Other writers held the key's lease for the whole wait. The writer did not run.
    #[error("other writers of {key} were still at work after {waited:?}: try again")]
    #[non_exhaustive]
    WriteBusy {
        /// The key, with its prefix.
        key: String,
        /// How long this writer waited for them.
        waited: Duration,
    },
    /// The writer has run, but L2 refused to remove the old value. That value stays in L2 until its
    /// TTL ends.
    #[error("{key} was written, but its old value could not be invalidated: invalidate it again")]
    #[non_exhaustive]
    NotInvalidated {
        /// The key, with its prefix.
        key: String,
        /// The store's own error.
        source: StoreError,
    },
    /// The key is empty or longer than 8 KiB.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The tag is empty or too long, or the entry has too many tags.
    #[error("the tag {tag:?} cannot be used: {problem}")]
    #[non_exhaustive]
    Tag {
        /// The key of the entry with the tag, with its prefix. `None` for a call that invalidates
        /// the tag.
        key: Option<String>,
        /// The tag, or its beginning.
        tag: String,
        /// The mistake in the tag, and the remedy.
        problem: String,
    },
    /// The value's encoded form is larger than the limit. The cache did not send it to L2.
    #[error(
        "the value of {key} has {size} bytes, more than {limit}: raise max_value_size or cache less"
    )]
    #[non_exhaustive]
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
    #[non_exhaustive]
    Encode {
        /// The key, with its prefix.
        key: String,
        /// The codec's own error.
        source: CodecError,
    },
    /// The TTL table has no policy of this name.
    #[error("the TTL table has no policy {name:?}; it has {known}")]
    #[non_exhaustive]
    NoSuchPolicy {
        /// The name that the caller passed.
        name: String,
        /// The names of all policies of the table.
        known: String,
    },
    /// The policy is in use with keys of another type, whose texts may differ.
    #[error(
        "the policy {name:?} has keys of type {held}, not {asked}: give the other type a policy of its own"
    )]
    #[non_exhaustive]
    KeyType {
        /// The policy.
        name: String,
        /// The type of keys that the first call of [`Larder::cache`](crate::Larder::cache) named.
        held: &'static str,
        /// The type of keys that this call names.
        asked: &'static str,
    },
    /// The policy is in use with values of another type; two types never share entries.
    #[error(
        "the policy {name:?} holds {held}, not {asked}: give the other type a policy of its own"
    )]
    #[non_exhaustive]
    PolicyType {
        /// The policy.
        name: String,
        /// The type that the first call of [`Larder::cache`](crate::Larder::cache) named.
        held: &'static str,
        /// The type that this call names.
        asked: &'static str,
    },
    /// The TTL table is wrong.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The outbox failed to return its entries, or to confirm them. The next drain does unconfirmed
    /// entries again.
    #[error("the outbox failed")]
    #[non_exhaustive]
    Outbox {
        /// The outbox' own error.
        source: SharedError,
    },
    /// The remote store failed in a call that needs it.
    #[error("the remote store failed{}", for_key(key.as_deref()))]
    #[non_exhaustive]
    Store {
        /// The key, with its prefix; `prefix:*` for a clear. `None` for a call without a key.
        key: Option<String>,
        /// The store's own error.
        source: StoreError,
    },
    /// Two options of the builder contradict each other, or one is out of its range.
    #[error("a larder cannot be built so: {problem}")]
    #[non_exhaustive]
    Options {
        /// The names of the options, and the remedy.
        problem: String,
    },
    /// The larder was closed before this call. No loader or writer ran.
    #[error("the larder is closed")]
    Closed,
    /// [`Larder::close`](crate::Larder::close) reached its limit. The larder is closed all the
    /// same; another call of `close` waits again for what is left.
    #[error(
        "after {waited:?}, {running} of the larder's writes and invalidations were still running, and {unsent} \
         invalidations were unsent: other processes may serve old values until their TTLs end"
    )]
    #[non_exhaustive]
    Unsent {
        /// The number of writes and invalidations that were still running.
        running: usize,
        /// The number of invalidations that could not be sent to L2.
        unsent: u64,
        /// The limit that passed.
        waited: Duration,
    },
    /// The caller is outside a tokio runtime. The call had no effect.
    #[error("there is no tokio runtime here: build and call the larder inside one")]
    NoRuntime,
}

impl Error {
    /// Returns the key of the failed call, with its prefix, if it had one.
    ///
    /// For a key that is too long, it returns the beginning; for an empty key, the prefix alone.
    /// See [the example above](Self).
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Load { key, .. }
            | Self::Panicked { key }
            | Self::LoadTimedOut { key, .. }
            | Self::TooManyLoads { key, .. }
            | Self::Deadlock { key, .. }
            | Self::NothingToKeep { key }
            | Self::Aborted { key }
            | Self::Absent { key }
            | Self::Write { key, .. }
            | Self::WriteBusy { key, .. }
            | Self::NotInvalidated { key, .. }
            | Self::ValueTooLarge { key, .. }
            | Self::Encode { key, .. } => Some(key),
            Self::Tag { key, .. } | Self::Store { key, .. } => key.as_deref(),
            Self::Key(KeyError::Empty { prefix: key } | KeyError::TooLong { start: key, .. }) => {
                Some(key)
            }
            Self::Key(_)
            | Self::NoSuchPolicy { .. }
            | Self::KeyType { .. }
            | Self::PolicyType { .. }
            | Self::Table(_)
            | Self::Outbox { .. }
            | Self::Options { .. }
            | Self::Closed
            | Self::Unsent { .. }
            | Self::NoRuntime => None,
        }
    }

    /// Returns the error of the application's loader or writer, or a source of that error, if it is
    /// an `E`.
    ///
    /// `None` if this error has another origin, or its type is not `E`. See [the example
    /// above](Self).
    pub fn load_error<E: std::error::Error + 'static>(&self) -> Option<&E> {
        let (Self::Load { source, .. } | Self::Write { source, .. }) = self else {
            return None;
        };
        let first: &(dyn std::error::Error + 'static) = &**source;
        std::iter::successors(Some(first), |error| error.source())
            .find_map(|error| error.downcast_ref())
    }

    /// Tells whether an equal call may succeed a little later without any change: a limit of time
    /// or number was reached, or the remote store is out of reach.
    ///
    /// It is `false` for the application's own errors ([`Load`](Self::Load),
    /// [`Write`](Self::Write), [`Outbox`](Self::Outbox)): only the application can judge them.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder::{Error, Larder, Loaded, TtlTable};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let table = TtlTable::from_toml("[report]\nttl = '1h'\nload_timeout = '10ms'")?;
    /// let larder = Larder::builder().ttl_table(table).build().await?;
    /// let reports = larder.cache::<u64, String>("report")?;
    /// let hangs = reports.get_or_load(1, || std::future::pending::<Result<String, Error>>());
    /// assert!(hangs.await.unwrap_err().is_transient());
    ///
    /// let absent = reports.get_or_load(2, || async { Ok::<Option<String>, Error>(None) });
    /// assert!(!absent.await.unwrap_err().is_transient());
    /// # Ok(()) }
    /// ```
    pub fn is_transient(&self) -> bool {
        match self {
            Self::LoadTimedOut { .. } | Self::TooManyLoads { .. } | Self::WriteBusy { .. } => true,
            Self::Store { source, .. } | Self::NotInvalidated { source, .. } => matches!(
                source,
                StoreError::Unreachable { .. }
                    | StoreError::TimedOut { .. }
                    | StoreError::TooManyUnsent { .. }
            ),
            _ => false,
        }
    }

    pub(crate) fn deadlock(key: impl fmt::Display, cycle: &Cycle) -> Self {
        Self::Deadlock {
            key: key.to_string(),
            cycle: cycle.to_string(),
        }
    }

    pub(crate) fn load(key: impl fmt::Display, source: SharedError) -> Self {
        Self::Load {
            key: key.to_string(),
            source,
        }
    }

    pub(crate) fn write(key: impl fmt::Display, source: impl Into<BoxError>) -> Self {
        Self::Write {
            key: key.to_string(),
            source: SharedError::new(source),
        }
    }

    pub(crate) fn store(key: impl fmt::Display, source: StoreError) -> Self {
        Self::Store {
            key: Some(key.to_string()),
            source,
        }
    }

    /// The remote store failed in a call that is not about one key.
    pub(crate) fn remote(source: StoreError) -> Self {
        Self::Store { key: None, source }
    }

    pub(crate) fn outbox(source: impl Into<BoxError>) -> Self {
        Self::Outbox {
            source: SharedError::new(source),
        }
    }
}

fn for_key(key: Option<&str>) -> String {
    key.map(|key| format!(" for {key}")).unwrap_or_default()
}

/// The application's own error, as its loader or writer returned it, shared by all callers that
/// waited for it.
///
/// It derefs to `dyn std::error::Error`:
///
/// ```
/// # use std::io;
/// # use larder::SharedError;
/// let shared = SharedError::new(io::Error::from(io::ErrorKind::NotFound));
/// assert_eq!(shared.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::NotFound);
/// ```
// Not an `Error` itself: otherwise it, and not the error inside, would be what `source` returns.
#[derive(Clone)]
pub struct SharedError(Arc<dyn std::error::Error + Send + Sync>);

impl SharedError {
    /// Shares an error.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into().into())
    }
}

impl Deref for SharedError {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, io};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the query failed")]
    struct Query(#[source] io::Error);

    #[test]
    fn source_is_the_applications_own_error_and_its_causes_follow() {
        let failed = Error::load("user:42", SharedError::new(Query(io::Error::other("down"))));
        let source = failed.source().expect("it has one");
        assert!(source.downcast_ref::<Query>().is_some(), "{source:?}");
        assert_eq!(
            source.source().map(ToString::to_string),
            Some("down".to_owned())
        );
        assert!(
            failed.load_error::<Query>().is_some() && failed.load_error::<io::Error>().is_some()
        );
        assert!(failed.load_error::<fmt::Error>().is_none());
    }

    #[test]
    fn error_says_its_own_layer_only_and_names_its_key() {
        let address = "redis://example.org".to_owned();
        let source = StoreError::Unreachable {
            address,
            source: None,
        };
        let cut_off = Error::store("user:1", source.clone());
        assert_eq!(cut_off.to_string(), "the remote store failed for user:1");
        assert_eq!(
            (cut_off.key(), cut_off.is_transient()),
            (Some("user:1"), true)
        );
        assert_eq!(Error::remote(source).to_string(), "the remote store failed");
        let failed = Error::write("user:2", "no");
        assert_eq!(
            (failed.key(), failed.is_transient()),
            (Some("user:2"), false)
        );
    }
}
