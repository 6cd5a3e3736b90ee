//! The states of a load on its way from its purpose to its verdict.

use std::time::Duration;

use super::caller::{CutOff, LoadError, Lookup};
use crate::{Leader, Lease, ReadSeq};

/// 30 years: longer than anybody waits.
pub(super) const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// 3: so often may the bytes that are to be replaced change under a load before it stops trying.
pub(super) const ROUNDS: usize = 3;

/// 100 ms: a reload for which there was no room is not tried again before.
pub(super) const CROWDED: Duration = Duration::from_millis(100);

/// The reason for a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// No level has a value.
    Fill,
    /// A value is still served: so the load is worth something also if nobody waits.
    Reload,
    /// The callers want a load that begins after their calls.
    Refresh,
    /// The callers have waited for others as long as they may.
    Overdue,
}

impl Purpose {
    /// Waits until no caller is left for whom it is worth waiting for another process.
    pub(super) async fn until_left<T>(self, leader: &Leader<T>) {
        match self {
            Self::Reload => leader.unattended().await,
            _ => leader.deserted().await,
        }
    }

    pub(super) fn of<V>(lookup: &Lookup<V>) -> Self {
        if matches!(lookup, Lookup::Aging(_)) {
            Self::Reload
        } else {
            Self::Fill
        }
    }
}

/// The moments at which a load asked for something.
#[derive(Clone, Copy, Default)]
pub(super) struct Questions {
    /// Of a level, for another load's value.
    pub(super) read: ReadSeq,
    /// Of the loader.
    pub(super) load: ReadSeq,
    /// Of the remote store, to keep the value.
    pub(super) store: ReadSeq,
}

/// A load that did not fail.
pub(super) enum Verdict<V> {
    /// Another load's value.
    Found(V),
    /// Its own value, which the levels keep.
    Kept { value: V, not_due: Duration },
    /// Its own value, which is kept nowhere, or only where nobody tells when it is outdated.
    Unkept(V),
}

impl<V> Verdict<V> {
    /// The verdict on a value that is for callers from before its load only.
    pub(super) fn for_earlier_callers(self) -> Self {
        match self {
            Self::Kept { value, .. } => Self::Unkept(value),
            verdict => verdict,
        }
    }
}

/// A load without a value.
pub(super) enum Stop<E> {
    /// All who wait get this error.
    Failed(LoadError<E>),
    /// There is a newer flight for its callers.
    Displaced,
    /// Nobody wants it any more.
    Deserted,
}

/// The state of a load after a look.
pub(super) enum Looked<V> {
    Found(V),
    Missing,
    CutOff(CutOff),
}

/// The state of a load after its claims.
pub(super) enum Claim<V> {
    Found(V),
    Leased(Lease),
    CutOff(CutOff),
    /// It has waited for others as long as it may.
    Overdue,
}
