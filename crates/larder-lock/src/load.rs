use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{Committed, Digest, Generations, Key, Phase, Stamp, StoreError, Stored, TagStamp};

/// A value that a level has, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Present<V> {
    /// The value.
    pub value: V,
    /// Whether it is to be served at once, or only in place of a load.
    pub phase: Phase,
    /// The generations of its cells from before it was read.
    pub stamp: Stamp,
    /// Its tags, if it has any.
    pub tags: Option<Arc<TagStamp>>,
    /// The digest of its bytes in the remote store, for one that is to be reloaded: a load replaces exactly these.
    pub digest: Option<Digest>,
}

impl<V> Present<V> {
    /// Tells whether nobody wrote or invalidated it since it was read.
    // P28 stale-only-while-current
    pub(crate) fn is_current(&self, key: &Key, generations: &Generations) -> bool {
        generations.is_current(key.hash(), &self.stamp)
            && self.tags.as_ref().is_none_or(|tags| tags.is_current())
    }
}

/// Where a loaded value was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the remote store, as [`Load::encode`] said.
    Remote,
    /// Nowhere, because the remote store is out of reach. No push will tell when it is outdated.
    Degraded,
    /// Nowhere, because there is no remote store.
    Local,
}

/// Why a load has no result.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The loader panicked.
    Panicked,
    /// The loader took longer than [`LoadLimits::load_timeout`](crate::LoadLimits::load_timeout).
    TimedOut(Duration),
    /// As many loads as may run at once were under way all this time, and this one was not begun.
    Crowded(Duration),
    /// The remote store is out of reach, and the load was not begun, see
    /// [`LoadLimits::needs_remote`](crate::LoadLimits::needs_remote).
    CutOff(StoreError),
}

/// What is to become of a loaded value in the remote store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// These bytes are to be stored, for this time.
    Store(Vec<u8>, Duration),
    /// The bytes that the load was to replace are to be kept, for this time from now on.
    Renew(Duration),
    /// It is not to be stored, and good for all who wait.
    Nothing,
    /// The same, and what the load was to replace is not to be kept either.
    Remove,
    /// It was invalidated since its load began, by one of its tags.
    Refused,
}

/// Why a loaded value is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its lease was lost, or marked by an invalidation.
    Lease,
    /// Its stamp was out of date, or one of its tags.
    Outdated,
}

/// What one read does with what it finds.
pub trait Look: Send + 'static {
    /// What callers get: cheap to clone, and it says by itself whether it is an error.
    type Value: Clone + Send + Sync + 'static;

    /// The same look at the same key, for a task of its own, without what a load needs.
    fn detached(&self) -> Self;

    /// Looks into the local store, without waiting. Who calls the lock has looked there before, so it is best done by
    /// [`get_uncounted`](larder_core::LocalStore::get_uncounted).
    fn cached(&self) -> Option<Present<Self::Value>>;

    /// Takes a value from the remote store; it may be kept locally with this stamp.
    ///
    /// # Errors
    /// The bytes' digest if they cannot be used: then a load may replace exactly these bytes.
    fn accept(
        &mut self,
        stored: Stored,
        stamp: &Stamp,
    ) -> impl Future<Output = Result<Present<Self::Value>, Digest>> + Send;

    /// Whether [`accept`](Self::accept) may have to ask the store for more. If not, it is ready at once.
    fn asks_more(&self, _stored: &Stored) -> bool {
        true
    }

    /// Whether [`accept`](Self::accept) keeps values in a local store. If not, nobody shares the look of another.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether [`accept`](Self::accept) needs to know the rest of the value's life, which costs a second command.
    fn needs_ttl(&self) -> bool {
        true
    }

    /// Takes note that a stale value is served in place of a load.
    fn served_stale(&mut self) {}

    /// Takes note that the remote store did not do its part.
    fn remote_failed(&mut self, error: &StoreError);
}

/// What one load does.
pub trait Load: Look {
    /// Learns from the remote store what must be known before the loader runs. Called while the lease is asked for.
    fn prepare(&mut self) -> impl Future<Output = ()> + Send;

    /// Takes note that somebody else's load of the key is waited for, so that who waits for this one's turn need not.
    fn waits(&mut self) {}

    /// Whether the loader is a part of a larger one, which takes one of [`max_loads`](crate::LoadLimits::max_loads) for all.
    fn is_part(&self) -> bool {
        false
    }

    /// Runs the loader. Called at most once. `previous` is the value that the load is to replace, if there is one.
    fn load(&mut self, previous: Option<Self::Value>) -> BoxFuture<'static, Self::Value>;

    /// Tells whether the time of a value that was accepted has ended since.
    fn has_ended(&self, value: &Self::Value) -> bool;

    /// Tells whether what callers would get is an error, so that a stale value is better.
    fn is_failure(value: &Self::Value) -> bool;

    /// Turns a load without a result into what callers get.
    fn failed(&mut self, failure: Failure) -> Self::Value;

    /// What a caller gets who has waited for so long, as long as it may.
    fn timed_out(key: &Key, after: Duration) -> Self::Value;

    /// What a caller gets if the task that ran its load is gone, as when the runtime shuts down.
    fn dropped(key: &Key) -> Self::Value;

    /// Says how the value is to be stored.
    fn encode(&mut self, value: &Self::Value) -> impl Future<Output = Encoded> + Send;

    /// The remote store has done what [`encode`](Self::encode) said. A value that it has taken may be kept locally as
    /// soon as the lane tracks it.
    fn committed(&mut self, value: &Self::Value, how: Committed) -> impl Future<Output = ()> + Send;

    /// How long a value that the remote store has taken is not due for a reload, though it may seem so to who reads it
    /// there; zero if it does not.
    fn not_due(&self) -> Duration {
        Duration::ZERO
    }

    /// The value may be kept locally, with this stamp, and nowhere else. `false` if it was invalidated since its load
    /// began.
    fn keep(&mut self, value: &Self::Value, stamp: &Stamp, kept: Kept) -> bool;

    /// Takes note that somebody wrote or invalidated the key during the load: the value is kept nowhere.
    fn refused(&mut self, why: Refusal);
}
