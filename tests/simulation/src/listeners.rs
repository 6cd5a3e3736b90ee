//! Pushes, and those who listen to them.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
};

use larder_core::{LaneIndex, Push, PushListener};

/// A push that is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Value(String),
    Lease(String),
    Tag(String),
    TagEpoch,
    /// A process has cleared a prefix. No server says that.
    Prefix(String),
    /// The server was emptied.
    Everything,
}

impl Told {
    /// Copies a push of the server, if it sends such a one.
    pub(crate) fn of(push: Push<'_>) -> Option<Self> {
        Some(match push {
            Push::Value(key) => Self::Value(key.to_owned()),
            Push::Lease(key) => Self::Lease(key.to_owned()),
            Push::Tag(_, tag) => Self::Tag(tag.to_owned()),
            Push::TagEpoch(_) => Self::TagEpoch,
            Push::Lane(_) => Self::Everything,
            Push::Prefix(_) => return None,
        })
    }

    /// The push as a listener is told of it, by the lane over which it came.
    pub(crate) fn as_push(&self, lane: LaneIndex) -> Push<'_> {
        match self {
            Self::Value(key) => Push::Value(key),
            Self::Lease(key) => Push::Lease(key),
            Self::Tag(tag) => Push::Tag(lane, tag),
            Self::TagEpoch => Push::TagEpoch(lane),
            Self::Prefix(prefix) => Push::Prefix(prefix),
            Self::Everything => Push::Lane(lane),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(key) => write!(f, "value {key}"),
            Self::Lease(key) => write!(f, "lease {key}"),
            Self::Tag(tag) => write!(f, "tag {tag}"),
            Self::TagEpoch => f.write_str("tag epoch"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Everything => f.write_str("everything"),
        }
    }
}

/// The listeners of a process.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Vec<Weak<dyn PushListener>>>);

impl Listeners {
    fn all(&self) -> MutexGuard<'_, Vec<Weak<dyn PushListener>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, listener: Weak<dyn PushListener>) {
        self.all().push(listener);
    }

    pub(crate) fn tell(&self, push: Push<'_>) {
        let listeners: Vec<_> = self.all().iter().filter_map(Weak::upgrade).collect();
        listeners.iter().for_each(|listener| listener.on_push(push));
    }
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}
