use std::time::Duration;

use larder_core::{Clock, Committed, Digest, Moment, Replacing, Stamp, StoreError, Stored};

use crate::Lease;

/// The levels into which a loaded value may be put.
#[derive(Debug)]
pub enum Destination<'a> {
    /// The remote store, under the load's lease; and then the local level.
    Remote(Commit<'a>),
    /// The local level alone.
    Local {
        /// The stamp from before the loader ran.
        stamp: Stamp,
        /// Why the remote store has no part in it.
        kept: Kept,
    },
}

/// The reason why a loaded value is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its lease was lost, or marked by an invalidation.
    Lease,
    /// Its stamp was outdated, or one of its tags.
    Outdated,
}

/// The levels that keep a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The remote store, too.
    Remote,
    /// The local level alone, because the remote store is out of reach: no push will tell when the
    /// value is outdated.
    Degraded,
    /// The local level alone, because there is no remote store.
    Local,
}

/// The answer to [`Loader::write_back`](super::caller::Loader::write_back).
#[derive(Clone, Debug)]
pub enum WrittenBack {
    /// Nobody interfered. The value is kept, if it was to be.
    Done {
        /// How long the value is not due for a reload, though readers of the remote store may take
        /// it for due. Zero: they do not.
        not_due: Duration,
    },
    /// The key was written or invalidated during the load. The value is kept nowhere.
    Refused(Refusal),
    /// The remote store did not answer, so that nobody knows.
    Failed(StoreError),
}

impl WrittenBack {
    /// Nobody interfered, and readers of the remote store are not mistaken about the value's age.
    pub const DONE: Self = Self::Done {
        not_due: Duration::ZERO,
    };

    /// Refuses a value whose stamp is outdated by now.
    pub(crate) fn if_current(self, is_current: bool) -> Self {
        match self {
            Self::Done { .. } if !is_current => Self::Refused(Refusal::Outdated),
            written => written,
        }
    }
}

/// The bytes in the remote store that a load may replace.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(crate) digest: Digest,
    /// When the remote store has let go of them at the latest.
    pub(crate) ends: Moment,
}

impl Replaced {
    /// The bytes that the remote store has just shown.
    pub(crate) fn of(stored: &Stored, clock: &Clock) -> Self {
        let (digest, ends) = (Digest::of(&stored.value), end_of(stored, clock));
        Self { digest, ends }
    }

    /// The bytes with this digest, if there are any.
    pub(crate) fn by(digest: Option<Digest>, ends: Moment) -> Option<Self> {
        digest.map(|digest| Self { digest, ends })
    }
}

/// 10 ms: the coarse clock may be behind by a little less.
const TICK: Duration = Duration::from_millis(10);

/// When the remote store has let go of a value at the latest, of which it has told just now.
// P3 clean-lease-commits: counted from after the answer
pub(crate) fn end_of(stored: &Stored, clock: &Clock) -> Moment {
    stored
        .ttl
        .map_or(Moment::NEVER, |ttl| clock.now() + ttl + TICK)
}

/// The right to change the remote store once, under a load's lease. It is spent by its first use,
/// and the lease with it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
/// /// Loads a number that is not to be kept.
/// struct Uncached;
///
/// impl Loader for Uncached {
///     type Value = u64;
///     type Error = Arc<io::Error>;
///
/// #     fn load(
/// #         &mut self,
/// #         _key: &Key,
/// #         _previous: Option<u64>,
/// #     ) -> BoxFuture<'static, Result<u64, Arc<io::Error>>> {
/// #         Box::pin(async { Ok(12) })
/// #     }
///     async fn write_back(
///         &mut self,
///         _key: &Key,
///         _number: &u64,
///         _epochs: TagEpochs,
///         to: Destination<'_>,
///     ) -> WrittenBack {
///         let Destination::Remote(commit) = to else {
///             return WrittenBack::DONE;
///         };
///         match commit.release().await {
///             Ok(committed) if committed.is_done() => WrittenBack::DONE,
///             Ok(_outdated) => WrittenBack::Refused(Refusal::Lease), // and not for later callers
///             Err(error) => WrittenBack::Failed(error),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = MemoryServer::new(Clock::system());
/// # let (lock, _pushes) = process(Arc::new(server.connect()));
/// # let key = Key::from_stored_name("visits:/");
/// # let request = request(&key, Numbers, Uncached);
/// assert_eq!(lock.get_or_load(request).await?, 12);
/// assert_eq!(server.read("visits:/"), None);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Commit<'a> {
    pub(crate) lease: &'a mut Lease,
    pub(crate) replaced: Option<&'a Replaced>,
    pub(crate) clock: &'a Clock,
}

impl Commit<'_> {
    /// Stores these bytes for this time, if nobody wrote or invalidated the key since the load
    /// began.
    ///
    /// # Errors
    /// The store's own error. The bytes may be stored all the same.
    // P3 clean-lease-commits: only under a held, clean lease, and over the bytes that it replaces
    pub async fn store(self, bytes: &[u8], ttl: Duration) -> Result<Committed, StoreError> {
        let replacing = match self.replaced {
            Some(seen) if self.has_ended(seen) => Replacing::Ended(&seen.digest),
            seen => seen.map(|seen| &seen.digest).into(),
        };
        self.lease.commit(bytes, ttl, replacing).await
    }

    /// Lets the bytes that the load was to replace live for this time from now on.
    ///
    /// # Errors
    /// The store's own error.
    pub async fn renew(self, ttl: Duration) -> Result<Committed, StoreError> {
        match self.replaced {
            Some(kept) => self.lease.touch(&kept.digest, ttl).await,
            None => self.release().await,
        }
    }

    /// Removes the bytes that the load was to replace.
    ///
    /// # Errors
    /// The store's own error.
    pub async fn remove(self) -> Result<Committed, StoreError> {
        match self.replaced {
            Some(seen) if !self.has_ended(seen) => {
                self.lease.touch(&seen.digest, Duration::ZERO).await
            }
            _ => self.release().await,
        }
    }

    /// Changes nothing, and tells whether nobody wrote or invalidated the key since the load began.
    ///
    /// # Errors
    /// The store's own error.
    pub async fn release(self) -> Result<Committed, StoreError> {
        let is_clean = self.lease.give_up().await?;
        Ok(if is_clean {
            Committed::Stored
        } else {
            Committed::Refused
        })
    }

    fn has_ended(&self, seen: &Replaced) -> bool {
        seen.ends <= self.clock.now()
    }
}
