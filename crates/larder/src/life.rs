//! How long entries live, in L2 and in L1.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use larder_core::{Key, LaneState, Life, Moment, Phase};
use larder_lock::Kept;

use crate::{
    encoding::Value,
    row::{Found, RowState},
};

/// How long a value lives from the moment at which it was loaded, written, or looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// How long it is fresh; `None` for one that another program wrote without an end.
    pub(crate) fresh: Option<Duration>,
    /// How long it is kept after that, to be served in place of a load.
    pub(crate) stale: Duration,
    /// The last part of the fresh time, in which a read starts a reload.
    pub(crate) ahead: Duration,
}

/// Lifetimes longer than this are cut, so that no deadline is out of Redis' range.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const SHORTEST: Duration = Duration::from_millis(1);

impl Span {
    /// How long L2 keeps it.
    pub(crate) fn in_remote(&self) -> Duration {
        self.fresh.unwrap_or(LONGEST).saturating_add(self.stale)
    }

    /// That of a value which is kept for `rest`, and stale for the last part of it.
    fn of_rest(rest: Option<Duration>, stale_for: Duration, ahead: Duration) -> Self {
        let Some(rest) = rest else { return Self { fresh: None, stale: stale_for, ahead: Duration::ZERO } };
        // L2 rounds down: what it keeps for zero is in its last millisecond.
        let stale = rest.max(SHORTEST).min(stale_for);
        Self { fresh: Some(rest.saturating_sub(stale_for)), stale, ahead }
    }

    /// What it is at the moment from which it counts.
    pub(crate) fn phase(&self) -> Phase {
        match self.fresh {
            Some(Duration::ZERO) if !self.stale.is_zero() => Phase::Stale,
            Some(fresh) if fresh < self.ahead => Phase::Due,
            _ => Phase::Fresh,
        }
    }
}

impl<T: Value> RowState<T> {
    /// How long a loaded or written value lives, shortened by the policy's jitter; `None` if it is not to be kept.
    pub(crate) fn span(&self, found: &Found<T>) -> Option<Span> {
        let (ttl, stale) = match &found.value {
            Some(_) => (found.ttl.unwrap_or(self.policy.ttl()), self.policy.stale_for()),
            None => (self.policy.negative_ttl()?, Duration::ZERO),
        };
        let fresh = ttl.min(LONGEST).mul_f64(1.0 - self.policy.jitter() * fastrand::f64());
        (fresh >= SHORTEST).then(|| Span { fresh: Some(fresh), stale, ahead: self.ahead(fresh) })
    }

    /// How long a value still lives that L2 keeps for `rest`. No clock of any host takes part.
    pub(crate) fn span_in_remote(&self, rest: Option<Duration>, is_absent: bool) -> Span {
        let stale_for = if is_absent { Duration::ZERO } else { self.policy.stale_for() };
        let ahead = if is_absent { Duration::ZERO } else { self.ahead(self.policy.ttl()) };
        Span::of_rest(rest, stale_for, ahead)
    }

    /// How long a value is not due that seems so to who reads it from L2, because it was given less than its policy's time.
    pub(crate) fn not_due(&self, span: &Span) -> Duration {
        let (Some(fresh), Some(share)) = (span.fresh, self.policy.refresh_ahead()) else {
            return Duration::ZERO;
        };
        // Those who read it cannot tell: what is left of its life is all that L2 says.
        let seems_due = fresh < self.policy.ttl().mul_f64(1.0 - share);
        if seems_due { fresh.saturating_sub(span.ahead) } else { Duration::ZERO }
    }

    /// The last part of a life of this length, in which a read starts a reload.
    ///
    /// It is longer by a random time in proportion to what the last load took: what was loaded together is not reloaded
    /// together, and what takes long to load is begun early. The source draws the time at each read; here a copy in L1
    /// keeps the one that was drawn when it was stored.
    /// Source: Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
    fn ahead(&self, ttl: Duration) -> Duration {
        let Some(share) = self.policy.refresh_ahead() else { return Duration::ZERO };
        let took = self.last_load.read();
        let spread = took.mul_f64(-(1.0 - fastrand::f64()).ln());
        ttl.mul_f64(1.0 - share).saturating_add(spread).min(ttl / 2 + ttl.mul_f64(1.0 - share) / 2)
    }

    /// The life in L1 of a value that was kept so. `from` lies before L2 was asked, so that L1 never outlives L2.
    // P20 l1-ends-with-l2
    pub(crate) fn life(&self, key: &Key, from: Moment, span: Span, kept: Kept) -> Life {
        let fresh = span.fresh.unwrap_or(LONGEST);
        let stale = from + fresh;
        let due = from + fresh.saturating_sub(span.ahead);
        let degraded = self.policy.l1_ttl().min(self.policy.degraded_l1_ttl());
        let limit = match (kept, &self.leases) {
            (Kept::Local, _) | (Kept::Remote, None) => return Life::new(due, stale, stale + span.stale),
            // No push tells of what makes it out of date, so it is not kept for the time after that either.
            (Kept::Degraded, _) => return Life::until(from + fresh.min(degraded)),
            // P12 tracking-never-assumed: tracking is never assumed.
            (Kept::Remote, Some(leases)) => match leases.remote().lane_state(self.lane(key)) {
                LaneState::Tracking | LaneState::Scattered | LaneState::Subscribed => self.policy.l1_ttl(),
                LaneState::Untracked | LaneState::Down => degraded,
            },
        };
        // One that is fresh is looked for in L2 again when it ends here, also if that is only for lack of freshness: L2
        // may have a newer one. One that is stale in L2 is as stale here.
        let rest = if fresh.is_zero() { span.stale } else { fresh };
        Life::new(due, stale, from + rest.min(limit))
    }
}

/// How long the last load took that did not fail.
#[derive(Debug, Default)]
pub(crate) struct LastLoad(AtomicU64);

impl LastLoad {
    pub(crate) fn took(&self, time: Duration) {
        self.0.store(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed); // it orders nothing
    }

    fn read(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_of_a_life_says_what_an_entry_is_to_its_last_millisecond() {
        let second = Duration::from_secs;
        let phase = |rest, stale_for| Span::of_rest(rest, stale_for, second(3)).phase();
        assert_eq!(phase(Some(second(14)), second(10)), Phase::Fresh);
        assert_eq!(phase(Some(second(12)), second(10)), Phase::Due);
        for rest in [second(10), second(1), Duration::ZERO] {
            assert_eq!(phase(Some(rest), second(10)), Phase::Stale, "{rest:?}");
        }
        assert_eq!(phase(Some(Duration::ZERO), Duration::ZERO), Phase::Due);
        assert_eq!(phase(None, second(10)), Phase::Fresh, "it has no end");
    }
}
