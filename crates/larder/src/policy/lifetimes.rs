use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use larder_core::{LaneState, Life, Moment, Phase};
use larder_lock::Kept;
use larder_ttl::Policy;

use crate::value::CachedValue;

/// Says how long a policy's entries live, in L2 and in L1.
#[derive(Debug)]
pub(crate) struct Lifetimes {
    ttl: Duration,
    negative_ttl: Option<Duration>,
    stale_for: Duration,
    refresh_ahead: Option<f64>,
    jitter: f64,
    l1_ttl: Duration,
    degraded_l1_ttl: Duration,
    last_load: LastLoad,
}

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

/// 100 years: longer lifetimes are cut, so that no deadline is out of Redis' range.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const SHORTEST: Duration = Duration::from_millis(1);

impl Span {
    /// How long L2 keeps the value.
    pub(crate) fn in_remote(&self) -> Duration {
        self.fresh.unwrap_or(LONGEST).saturating_add(self.stale)
    }

    /// The span of a value that is kept for `rest`, and is stale for the last part of it.
    fn of_rest(rest: Option<Duration>, stale_for: Duration, ahead: Duration) -> Self {
        let Some(rest) = rest else {
            return Self {
                fresh: None,
                stale: stale_for,
                ahead: Duration::ZERO,
            };
        };
        // L2 rounds down: what it keeps for zero is in its last millisecond.
        let stale = rest.max(SHORTEST).min(stale_for);
        Self {
            fresh: Some(rest.saturating_sub(stale_for)),
            stale,
            ahead,
        }
    }

    /// The value's phase at the moment from which the span counts.
    pub(crate) fn phase(&self) -> Phase {
        match self.fresh {
            Some(Duration::ZERO) if !self.stale.is_zero() => Phase::Stale,
            Some(fresh) if fresh < self.ahead => Phase::Due,
            _ => Phase::Fresh,
        }
    }
}

impl Lifetimes {
    pub(crate) fn new(settings: &Policy) -> Self {
        Self {
            ttl: settings.ttl(),
            negative_ttl: settings.negative_ttl(),
            stale_for: settings.stale_for(),
            refresh_ahead: settings.refresh_ahead(),
            jitter: settings.jitter(),
            l1_ttl: settings.l1_ttl(),
            degraded_l1_ttl: settings.degraded_l1_ttl(),
            last_load: LastLoad::default(),
        }
    }

    /// Takes note of how long a load took that did not fail.
    pub(crate) fn load_took(&self, time: Duration) {
        self.last_load.took(time);
    }

    /// Tells whether an entry's phase, or its absence, depends on the rest of its life in L2.
    pub(crate) fn depend_on_rest(&self) -> bool {
        self.negative_ttl.is_some() || self.refresh_ahead.is_some() || !self.stale_for.is_zero()
    }

    /// Tells whether "absent" in L2 may be believed: the policy remembers absence, and no longer
    /// than `rest`.
    pub(crate) fn believe_absence(&self, rest: Option<Duration>) -> bool {
        matches!((self.negative_ttl, rest), (Some(longest), Some(rest)) if rest <= longest)
    }

    /// How long a loaded or written value lives, shortened by the policy's jitter; `None` if it is
    /// not to be kept.
    pub(crate) fn span(&self, value: &CachedValue) -> Option<Span> {
        let (ttl, stale) = match &value.value {
            Some(_) => (value.ttl.unwrap_or(self.ttl), self.stale_for),
            None => (self.negative_ttl?, Duration::ZERO),
        };
        let fresh = ttl
            .min(LONGEST)
            .mul_f64(1.0 - self.jitter * fastrand::f64());
        (fresh >= SHORTEST).then(|| Span {
            fresh: Some(fresh),
            stale,
            ahead: self.ahead(fresh),
        })
    }

    /// How long a value still lives that L2 keeps for `rest`. No clock of any host takes part.
    pub(crate) fn span_in_remote(&self, rest: Option<Duration>, is_absent: bool) -> Span {
        if is_absent {
            return Span::of_rest(rest, Duration::ZERO, Duration::ZERO);
        }
        Span::of_rest(rest, self.stale_for, self.ahead(self.ttl))
    }

    /// The time for which readers in L2 take a value for due although it is not, because it
    /// got less than the policy's `ttl`.
    pub(crate) fn not_due(&self, span: &Span) -> Duration {
        let (Some(fresh), Some(share)) = (span.fresh, self.refresh_ahead) else {
            return Duration::ZERO;
        };
        // Its readers cannot tell: the rest of its life is all that L2 says.
        let seems_due = fresh < self.ttl.mul_f64(1.0 - share);
        if seems_due {
            fresh.saturating_sub(span.ahead)
        } else {
            Duration::ZERO
        }
    }

    /// The last part of a life of this length, in which a read starts a reload.
    ///
    /// A random time is added, in proportion to the duration of the last load. So values that were
    /// loaded together are not reloaded together, and a slow load begins early. The source draws
    /// this time at each read. Here a copy in L1 keeps the time that was drawn when L1 stored it.
    /// Source: Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede
    /// Prevention, VLDB 2015.
    fn ahead(&self, ttl: Duration) -> Duration {
        let Some(share) = self.refresh_ahead else {
            return Duration::ZERO;
        };
        let spread = self.last_load.read().mul_f64(-(1.0 - fastrand::f64()).ln());
        let last_part = ttl.mul_f64(1.0 - share);
        last_part
            .saturating_add(spread)
            .min(ttl / 2 + last_part / 2)
    }

    /// The life in L1 of a value that was kept so. `from` lies before L2 was asked, so that L1
    /// never outlives L2. `lane` is the state of the key's lane, where the policy has an L2.
    // P20 l1-ends-with-l2: the deadline counts from before L2 was asked
    pub(crate) fn life(
        &self,
        from: Moment,
        span: Span,
        kept: Kept,
        lane: Option<LaneState>,
    ) -> Life {
        let fresh = span.fresh.unwrap_or(LONGEST);
        let stale = from + fresh;
        let due = from + fresh.saturating_sub(span.ahead);
        let degraded = self.l1_ttl.min(self.degraded_l1_ttl);
        let limit = match (kept, lane) {
            (Kept::Local, _) | (Kept::Remote, None) => {
                return Life::new(due, stale, stale + span.stale);
            }
            // No push tells when it is outdated, so it has no stale time either.
            (Kept::Degraded, _) => return Life::until(from + fresh.min(degraded)),
            // P12 tracking-never-assumed: the lane's state says whether pushes come
            (Kept::Remote, Some(lane)) => match lane {
                LaneState::Tracking | LaneState::Scattered | LaneState::Subscribed => self.l1_ttl,
                LaneState::Untracked | LaneState::Down => degraded,
            },
        };
        // A fresh copy ends here at the latest when it is stale: L2 may have a newer value by then.
        // A copy that is stale in L2 is as stale here.
        let rest = if fresh.is_zero() { span.stale } else { fresh };
        Life::new(due, stale, from + rest.min(limit))
    }
}

/// How long the last load took that did not fail, in nanoseconds.
#[derive(Debug, Default)]
struct LastLoad(AtomicU64);

impl LastLoad {
    fn took(&self, time: Duration) {
        // Relaxed: it orders nothing.
        self.0.store(
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
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
