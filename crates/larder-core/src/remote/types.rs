use std::time::Duration;

use bytes::Bytes;

use crate::{
    digest::Digest,
    generations::{LaneIndex, Stamp},
};

/// A value as the remote store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value's bytes.
    pub value: Bytes,
    /// The rest of its life. `None` if the value has no end, as when another program wrote it, or
    /// if the caller did not ask.
    pub ttl: Option<Duration>,
}

/// The part of a [`Stored`] value that a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The bytes.
    Value,
    /// The bytes and the rest of the value's life.
    ValueAndTtl,
}

impl Want {
    /// Tells whether the rest of the value's life is wanted.
    pub fn has_ttl(self) -> bool {
        self == Self::ValueAndTtl
    }
}

/// Whether a caller relies on being told of changes of the value that it reads or stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// It keeps a copy of the value, or may serve the value later. The lane tracks the value, if
    /// there is one.
    Value,
    /// It hands the value on at once. The lane need not track it.
    Nothing,
}

/// The value that a claim or commit may replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replacing<'a> {
    /// None: there must be no value.
    #[default]
    Nothing,
    /// Exactly the value with this digest.
    Value(&'a Digest),
    /// The value with this digest, or none, if that value has expired since the caller saw it.
    Ended(&'a Digest),
}

impl<'a> From<Option<&'a Digest>> for Replacing<'a> {
    fn from(seen: Option<&'a Digest>) -> Self {
        seen.map_or(Self::Nothing, Self::Value)
    }
}

/// The longest life of a lease: a day. A lease that would live longer was not taken by a larder, or
/// has lost its end: it is taken over.
pub const LONGEST_LEASE: Duration = Duration::from_secs(24 * 3600);

/// The answer to [`LeaseStore::claim`](crate::LeaseStore::claim).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// There is a value.
    Hit(Stored),
    /// The caller holds the lease and should load.
    Leased,
    /// Another caller holds the lease, for at most this long unless it is renewed.
    Busy(Duration),
}

/// The answer to [`LeaseStore::begin_write`](crate::LeaseStore::begin_write).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteClaim {
    /// The caller holds the lease and may write.
    Leased,
    /// Another writer holds the lease, for at most this long unless it is renewed.
    Busy(Duration),
}

/// The answer to [`LeaseStore::commit`](crate::LeaseStore::commit) and
/// [`LeaseStore::touch`](crate::LeaseStore::touch).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Another caller interfered, and nothing was stored.
    Refused,
    /// The value is stored. [`ValueStore::holds`](crate::ValueStore::holds) tells whether it still
    /// is.
    Stored,
    /// The value is stored, and the lane tracks it from that very step on.
    Tracked {
        /// Whether the listeners got the push of the commit itself, once, before this reply. If
        /// not, no such push comes.
        told: bool,
    },
}

impl Committed {
    /// Tells whether the value was stored, because no other caller interfered.
    pub fn is_done(self) -> bool {
        self != Self::Refused
    }

    /// The stamp of a value that the lane tracks, made of the stamp from before the commit was
    /// sent.
    ///
    /// It is outdated if anything but the commit itself has happened to the key since.
    // P4 l1-read-from-l2: the lane read the key in the step that wrote it, so the push for that
    // step has come, if there is one.
    pub fn tracked(self, before: Stamp) -> Option<Stamp> {
        match self {
            Self::Tracked { told: true } => Some(before.after_one()),
            Self::Tracked { told: false } => Some(before),
            Self::Stored | Self::Refused => None,
        }
    }
}

/// The answer to [`ValueStore::invalidate`](crate::ValueStore::invalidate).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidated {
    /// The value is gone.
    Done,
    /// The store is out of reach. The value will be gone before this lane is read through again.
    Deferred,
}

/// The state of a lane: whether it can be read, and how it hears of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Connected. The server pushes each change of a key that was read, before any later reply.
    Tracking,
    /// Connected to several servers. Each pushes like [`Tracking`](Self::Tracking), but in no order
    /// with the others: a push for a tag may come after a later reply of the server that has the
    /// value.
    Scattered,
    /// Connected. Other processes tell of their changes over a channel of its own, in no order with
    /// replies. Nothing tells of writes by other programs, nor of removals by
    /// the server itself.
    Subscribed,
    /// Connected, but without pushes or messages of other processes' changes: a copy in L1 must be
    /// short-lived.
    Untracked,
    /// Not connected. Calls fail at once.
    Down,
}

/// A listener to events in the remote store.
///
/// Pushes are delivered in the order in which the store sent them, and before any later reply of
/// the same lane; of a [`Scattered`](LaneState::Scattered) lane, of the same server. A listener
/// must not block, and must not call the store.
pub trait PushListener: Send + Sync {
    /// Takes note of a push.
    fn on_push(&self, push: Push<'_>);

    /// Takes note of an event of the store as a whole, in no order with pushes.
    fn on_event(&self, event: RemoteEvent) {
        let _ = event;
    }
}

/// A change that the remote store tells of without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push<'a> {
    /// The value of this key was written or deleted by another caller, or expired, or was evicted.
    Value(&'a str),
    /// The lease of this key was taken, given up or changed by another caller.
    Lease(&'a str),
    /// This tag, as the lane has read it, was invalidated or pinned anew.
    Tag(LaneIndex, &'a str),
    /// The tag epoch, as the lane has read it, has grown or was lost.
    TagEpoch(LaneIndex),
    /// Every key that begins so was invalidated by another caller. Only a store that does not tell
    /// of each key sends it.
    Prefix(&'a str),
    /// The server tracks nothing any more that was read through this lane: its connection was lost
    /// or replaced, or the server was emptied.
    Lane(LaneIndex),
}

/// An event of a store as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteEvent {
    /// The circuit breaker opened: the store leaves its server alone, also after a failed trial.
    Opened,
    /// The store tries whether its server is back.
    HalfOpen,
    /// The store uses its server again.
    Closed,
    /// An invalidation could not be sent, and will be sent later.
    Unsent {
        /// The number of unsent invalidations in its lane, this one included.
        count: u64,
    },
    /// A server may have come back with older data. The store invalidates again what the server may
    /// have forgotten, before any caller reads through the connection.
    DataLoss {
        /// The number of keys, prefixes and tags.
        count: u64,
    },
    /// Unsent invalidations have been sent, before anything else was read.
    Resent {
        /// The number of invalidations.
        count: u64,
    },
}

/// The state of a store's circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum BreakerState {
    /// The store uses its server.
    #[default]
    Closed,
    /// One connection tries whether the server is back. Calls fail at once.
    HalfOpen,
    /// The store leaves its server alone for a while. Calls fail at once.
    Open,
}

/// Counters of a store's connections since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Changes that the server told of: those of other callers, its own removals and, where it
    /// pushes, our own.
    pub pushes: u64,
    /// Lost connections and subscriptions.
    pub lanes_lost: u64,
    /// Probes that did not come back, so the channel was connected but deaf.
    pub probe_failures: u64,
    /// The time that the latest probe's push took, from before the write that caused it was sent.
    pub push_lag: Option<Duration>,
    /// The names that the servers remember for all clients, because the clients have read them, at
    /// the latest probe. `None` if that is not known.
    pub tracked_names: Option<u64>,
    /// Invalidations of keys and tags that could not be sent yet. Other processes may still serve
    /// the values that these outdate.
    pub unsent: u64,
    /// The state of the circuit breaker. It is open, too, while no runtime drives a connection.
    pub breaker: BreakerState,
    /// Times that the breaker opened. Failed trials in between do not count.
    pub breaker_opened: u64,
    /// Invalidations of keys, prefixes and tags that were unsent first, and sent later.
    pub resent: u64,
    /// Connections to a server that may have come back with older data: one for each lane.
    pub data_losses: u64,
}
