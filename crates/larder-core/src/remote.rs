use std::{fmt::Debug, sync::Weak, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Digest, Key, Stamp, StoreError, Token};

/// A store that several processes share, the L2: values, leases and pushes.
///
/// The words are those of the coherence protocol. Every call is one atomic step in the store. A `Duration` is
/// rounded down to whole milliseconds, and never to less than one. `larder-testkit` has the suite that every
/// implementation must pass; [`MemoryRemote`](crate::MemoryRemote) is one for tests without a server.
///
/// # Cancellation
/// A call whose future is dropped may or may not take effect. Whoever must know runs the call in a task of its own.
///
/// # Errors
/// Every call fails with [`StoreError::Unreachable`] at once while the key's lane is down, with
/// [`StoreError::TimedOut`] if no answer came, and with [`StoreError::Refused`] or [`StoreError::WrongType`] if the
/// server said no. An error leaves open whether the call has taken effect, or still will.
#[async_trait]
pub trait RemoteStore: Debug + Send + Sync + 'static {
    /// How many lanes there are, at least one. Never changes.
    fn lanes(&self) -> u16;

    /// The lane that every call for this key takes. Never changes.
    fn lane(&self, key: &str) -> u16;

    /// What the lane can do at this moment.
    fn lane_state(&self, lane: u16) -> LaneState;

    /// Adds one who is told of pushes. Where the server does not push, a store is not told of what is written through
    /// itself, so two caches that share one do not hear of each other: give each a store of its own.
    fn subscribe(&self, listener: Weak<dyn PushListener>);

    /// How long a call may take before it fails; `None`, the default, where that is not known.
    fn call_timeout(&self) -> Option<Duration> {
        None
    }

    /// Asks the server which of its settings will hurt a cache: each problem with its remedy, none by default. A server
    /// that does not tell has none.
    async fn advice(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads a value. The lane tracks the key from now on, also if it is absent. One that is empty, which no codec writes,
    /// may count as none.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Reads a value and the rest of its life, in one round trip; tracks the key like [`get`](Self::get).
    async fn get_with_ttl(&self, key: &str) -> Result<Option<Stored>, StoreError>;

    /// Reads many values of one lane, with the rest of their lives if it is asked for, in as few round trips as the store
    /// can; tracks the keys like [`get`](Self::get). What is not a value is `None`: a [`claim`](Self::claim) says why.
    ///
    /// By default they are read one after the other.
    async fn get_many(
        &self,
        _lane: u16,
        keys: &[&str],
        with_ttl: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let stored = match with_ttl {
                true => self.get_with_ttl(key).await,
                false => self.get(key).await.map(|value| value.map(|value| Stored { value, ttl: None })),
            };
            found.push(match stored {
                Err(StoreError::WrongType { .. }) => None,
                stored => stored?,
            });
        }
        Ok(found)
    }

    /// Asks for the right to fill the key: returns the value if there is one that is not to be replaced, takes the
    /// lease if it is free, or tells how long it is still held. Tracks the value and the lease.
    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
    ) -> Result<Claim, StoreError>;

    /// Asks for the right to write behind the key: deletes the value and takes the lease from any reader.
    async fn begin_write(&self, key: &str, token: &Token, lease: Duration) -> Result<WriteClaim, StoreError>;

    /// Extends a lease; `false` if it is lost. A writer's lease that an invalidation marked is extended too.
    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError>;

    /// Stores the value and gives up the lease, if the lease is still held and unmarked and the value is still as
    /// the claim found it; else stores nothing and gives up the lease. Whoever tracks the key is told, also this store,
    /// before the reply to its next call is here.
    async fn commit(
        &self,
        key: &str,
        token: &Token,
        value: &[u8],
        ttl: Duration,
        replacing: Replacing<'_>,
    ) -> Result<Committed, StoreError>;

    /// Gives up the lease and lets the value with this digest live for `ttl` from now on, if the lease is still held and
    /// unmarked and the value is there; else only gives up the lease. Zero removes the value. Tells like
    /// [`commit`](Self::commit).
    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
    ) -> Result<Committed, StoreError>;

    /// Tells whether the value is the one with this digest; tracks the key like [`get`](Self::get).
    async fn holds(&self, key: &str, digest: &Digest) -> Result<bool, StoreError>;

    /// Gives up a lease without storing anything; returns whether it was still held and unmarked, that is whether
    /// nobody wrote or invalidated the key since the claim.
    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError>;

    /// Deletes the value and any reader's lease, and marks another writer's lease so that its commit is refused.
    /// The lease named by `own`, which the caller gives up with this call, is deleted too.
    ///
    /// While the lane is down, or if it is lost meanwhile, or if the server refuses for now, the key is remembered, and
    /// the invalidation is done before anything else is read through the lane again. A store that remembers too much
    /// may remember the key's [prefix](Key::prefix) instead, and clear it.
    ///
    /// # Errors
    /// [`StoreError::WrongType`], and [`StoreError::Refused`] if the store's user may not do this;
    /// [`StoreError::TooManyUnsent`] if it could be neither done nor remembered.
    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError>;

    /// Invalidates every key that begins with `prefix`, and returns how many values there were: first every lease,
    /// so that no load that began before can commit, then every value. Not atomic as a whole.
    async fn clear(&self, prefix: &str) -> Result<u64, StoreError>;

    /// Reads the order number E, which grows with each invalidation of any tag. The lane tracks it.
    async fn tag_epoch(&self, lane: u16) -> Result<u64, StoreError>;

    /// Reads under which order number each tag is held; `None` for one that is not. The lane tracks them.
    async fn tags(&self, lane: u16, tags: &[&str]) -> Result<Vec<Option<u64>>, StoreError>;

    /// Holds tags for an entry with this order number that is to live for `ttl`, in one atomic step: a tag that is not
    /// held is, if E is still `order`. Returns what [`tags`](Self::tags) would then. The lane tracks them.
    async fn pin_tags(
        &self,
        lane: u16,
        tags: &[&str],
        order: u64,
        ttl: Duration,
    ) -> Result<Vec<Option<u64>>, StoreError>;

    /// Invalidates a tag: E grows, and the tag is not held any more, so that no entry which has it is valid.
    ///
    /// While every lane is down the tag is remembered, and it is invalidated before anything else is read through any
    /// of them.
    ///
    /// # Errors
    /// As for [`invalidate`](Self::invalidate), but for too many: then every tag may be invalidated instead.
    async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, StoreError>;

    /// What happened to the connections so far; all zero in a store that has none.
    fn stats(&self) -> RemoteStats {
        RemoteStats::default()
    }
}

/// What happened to a store's connections, in numbers since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Changes that the server told of: by others, its own removals and, where it pushes, our own too.
    pub pushes: u64,
    /// How often a connection was lost, or a subscription.
    pub lanes_lost: u64,
    /// Probes that did not come back: the channel was connected, but deaf.
    pub probe_failures: u64,
    /// How long the push of the latest probe took to arrive, counted from before the write that caused it was sent.
    pub push_lag: Option<Duration>,
    /// Invalidations of keys and tags that could not be sent yet: others may still be served what they make out of date.
    pub unsent: u64,
    /// Whether the server is asked at all.
    pub breaker: BreakerState,
    /// How often it was given up; trials that failed in between are not counted.
    pub breaker_opened: u64,
    /// Invalidations of keys, prefixes and tags that could not be sent at first, and were sent later.
    pub resent: u64,
}

/// Whether a store asks its server, or leaves it alone because it did not answer or took no writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// The server is asked.
    #[default]
    Closed,
    /// One connection tries whether the server is back; calls fail at once.
    HalfOpen,
    /// The server is left alone for a while; calls fail at once.
    Open,
}

/// What happens to a store as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteEvent {
    /// The server is left alone from now on, or again after a trial that failed.
    Opened,
    /// It is tried whether the server is back.
    HalfOpen,
    /// The server is asked again.
    Closed,
    /// An invalidation could not be sent, and is sent later.
    Unsent {
        /// How many wait with it, in its lane.
        count: u64,
    },
    /// Invalidations that could not be sent have been, before anything is read.
    Resent {
        /// How many.
        count: u64,
    },
}

/// The value that a claim or commit may replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replacing<'a> {
    /// None: there must be no value.
    #[default]
    Nothing,
    /// Exactly the one with this digest.
    Value(&'a Digest),
    /// The one with this digest, or none: its time has ended since it was seen.
    Ended(&'a Digest),
}

impl<'a> From<Option<&'a Digest>> for Replacing<'a> {
    fn from(seen: Option<&'a Digest>) -> Self {
        seen.map_or(Self::Nothing, Self::Value)
    }
}

/// A value as the remote store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value's bytes.
    pub value: Bytes,
    /// The rest of its life; `None` if it has no end, as when another program wrote it.
    pub ttl: Option<Duration>,
}

/// The answer to [`RemoteStore::claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is a value.
    Hit(Stored),
    /// The caller holds the lease and should load.
    Leased,
    /// Somebody else holds the lease, for at most this long unless it is renewed.
    Busy(Duration),
}

/// The answer to [`RemoteStore::commit`] and [`RemoteStore::touch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Somebody interfered, and nothing was done.
    Refused,
    /// It is done. Whether the value is still there, [`RemoteStore::holds`] tells.
    Stored,
    /// It is done, and the lane tracks the value from that very step on.
    Tracked {
        /// Whether the listeners have been told of the commit itself, once, before this reply was delivered. If not, they
        /// are not told of it at all.
        told: bool,
    },
}

impl Committed {
    /// Whether nobody interfered.
    pub fn is_done(self) -> bool {
        self != Self::Refused
    }

    /// The stamp of a value that the lane tracks: it was `before` when the commit was sent, and is out of date if anything
    /// but the commit itself has happened to the key since.
    // P4 l1-read-from-l2: the lane read the key in the step that wrote it, so the push for that step has come, if there is one.
    pub fn tracked(self, before: Stamp) -> Option<Stamp> {
        match self {
            Self::Tracked { told: true } => Some(before.after_one()),
            Self::Tracked { told: false } => Some(before),
            Self::Stored | Self::Refused => None,
        }
    }
}

/// The answer to [`RemoteStore::begin_write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteClaim {
    /// The caller holds the lease and may write.
    Leased,
    /// Another writer holds the lease, for at most this long unless it is renewed.
    Busy(Duration),
}

/// The answer to [`RemoteStore::invalidate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidated {
    /// The value is gone.
    Done,
    /// The store is out of reach. The value will be gone before anybody reads through this lane again.
    Deferred,
}

/// What a lane can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Connected, and the server pushes the invalidation of what is read, before any later reply.
    Tracking,
    /// Connected to several servers, each of which pushes the invalidation of what is read from it, before any later reply
    /// of its own, but in no order with the replies of the others: a push for a tag may come after a later reply of the
    /// server that has the value.
    Scattered,
    /// Connected, and other processes tell of what they change over a channel of its own, in no order with replies.
    /// Nobody tells of what other programs write and of what the server removes by itself.
    Subscribed,
    /// Connected, but nothing tells of other processes' writes: a copy in L1 must be short-lived.
    Untracked,
    /// Not connected; calls fail at once.
    Down,
}

/// Somebody who wants to know what happens in the remote store.
///
/// Called in the order in which the store sent the pushes, and before any later reply of the same lane is delivered; of
/// a lane that is [`Scattered`](LaneState::Scattered), of the same server. It must not block and must not call the store.
pub trait PushListener: Send + Sync {
    /// Takes note of a push.
    fn on_push(&self, push: Push<'_>);

    /// Takes note of what happened to the store as a whole; in no order with pushes.
    fn on_event(&self, event: RemoteEvent) {
        let _ = event;
    }
}

/// What the remote store tells without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push<'a> {
    /// The value of this key was written or deleted by somebody else, or it expired or was evicted.
    Value(&'a str),
    /// The lease of this key was taken, given up or changed by somebody else.
    Lease(&'a str),
    /// This tag, as the lane has read it, was invalidated or is held anew.
    Tag(u16, &'a str),
    /// The order number E, as the lane has read it, has grown or was lost.
    TagEpoch(u16),
    /// Every key that begins so was invalidated by somebody else. Only told where the server does not tell of each.
    Prefix(&'a str),
    /// Nothing that was read through this lane is tracked any more: its connection was lost or replaced, or the
    /// server was emptied.
    Lane(u16),
}
