use larder_core::Track;

use crate::Leases;

impl Leases {
    /// Makes leases for callers that keep no copy of a value, and never serve one later: the store
    /// need not track it. They share the waiters.
    // P33 only-kept-is-tracked
    pub fn untracked(&self) -> Self {
        let mut leases = self.clone();
        leases.track = Track::Nothing;
        leases
    }

    /// Whether the store is to track the values that it returns or takes.
    pub(crate) fn track(&self) -> Track {
        self.track
    }
}
