use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{BreakerState, RemoteEvent};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, info, warn};

use crate::{config::RedisConfig, listeners::Listeners};

/// A circuit breaker: decides whether Redis is asked at all. All lanes of a store share one.
///
/// ```text
/// closed ── trip ──▶ open ── its pause is over ──▶ half-open, one trial ── passed ──▶ closed
///                      ▲                                   │
///                      └──────────── for longer ── failed ─┘
/// ```
pub(crate) struct Breaker {
    first: Duration,
    longest: Duration,
    shown: String,
    phase: watch::Sender<Phase>,
    /// Whether the phase is open: a copy, because every call asks, and must not write to a lock
    /// that all threads share.
    is_open: AtomicBool,
    /// Those who are told; nobody is told of the breaker of one master.
    listeners: Option<Arc<Listeners>>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Since when, and the pause before that.
    Closed { since: Instant, last: Duration },
    /// Until when, and the pause before chance shortens it.
    Open { until: Instant, pause: Duration },
    /// One lane tries, after a pause of this length.
    HalfOpen { pause: Duration },
}

/// A lane's right to connect. A trial that is dropped without a verdict has failed.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The store is being made: its caller is told what is wrong with the connection itself.
    Start,
    /// The breaker was closed, since this time.
    Closed(Instant),
    Trial,
}

/// The result of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
}

impl Phase {
    fn state(self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { .. } => BreakerState::Open,
            Self::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
}

impl Breaker {
    pub(crate) fn new(config: &RedisConfig, shown: String, listeners: Arc<Listeners>) -> Self {
        Self {
            listeners: Some(listeners),
            ..Self::of_shard(config, shown)
        }
    }

    /// A breaker for one master of a cluster: the store's listeners are not told.
    pub(crate) fn of_shard(config: &RedisConfig, shown: String) -> Self {
        Self {
            first: config.breaker_pause,
            longest: config.breaker_max_pause,
            shown,
            phase: watch::Sender::new(Phase::Closed {
                since: Instant::now(),
                last: Duration::ZERO,
            }),
            is_open: AtomicBool::new(false),
            listeners: None,
        }
    }

    /// Changes the phase, if there is a next one.
    fn change(&self, next: impl FnOnce(Phase) -> Option<Phase>) -> bool {
        self.phase.send_if_modified(|phase| {
            let Some(next) = next(*phase) else {
                return false;
            };
            *phase = next;
            // Under the phase's lock, so the copy is never older. Release pairs with the Acquire in
            // `is_open`.
            self.is_open
                .store(next.state() == BreakerState::Open, Ordering::Release);
            true
        })
    }

    pub(crate) fn state(&self) -> BreakerState {
        self.phase.borrow().state()
    }

    /// Whether Redis is bypassed, and no lane tries.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Opens the breaker, if it is closed. While it is half-open, only the trial's own verdict
    /// counts: what was asked before the trial says nothing.
    pub(crate) fn trip(&self, reason: &dyn fmt::Display) {
        self.trip_if(reason, |_| true);
    }

    fn trip_if(&self, reason: &dyn fmt::Display, is_meant: impl FnOnce(Instant) -> bool) {
        let opened = self.change(|phase| {
            let Phase::Closed { since, last } = phase else {
                return None;
            };
            if !is_meant(since) {
                return None;
            }
            // Only a breaker that stayed closed for a while begins with the shortest pause again,
            // so that a server which comes and goes costs callers one time-out in that while, and
            // not one after each short pause.
            let is_steady = since.elapsed() >= self.longest.saturating_mul(2);
            Some(self.open_after(if is_steady { Duration::ZERO } else { last }))
        });
        if opened {
            if let Some(listeners) = &self.listeners {
                listeners.stats.breaker_opened.add(1);
            }
            warn!(event = "breaker_opened", address = %self.shown, %reason,
                "circuit breaker opened: bypassing Redis");
            self.tell(RemoteEvent::Opened);
        }
    }

    /// The open phase after this pause: it is longer.
    fn open_after(&self, last: Duration) -> Phase {
        let pause = last.saturating_mul(2).max(self.first).min(self.longest);
        // Shortened by up to half at random, so that many processes don't come back in step.
        Phase::Open {
            until: Instant::now() + pause.mul_f64(1.0 - fastrand::f64() / 2.0),
            pause,
        }
    }

    fn tell(&self, event: RemoteEvent) {
        if let Some(listeners) = &self.listeners {
            listeners.tell_event(event);
        }
    }

    /// Waits until the breaker is not closed.
    pub(crate) async fn opened(&self) {
        // The sender lives as long as `self`, so there is no error.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|phase| phase.state() != BreakerState::Closed)
            .await;
    }

    /// The right to connect while the store is made. It holds whatever happens to the lanes that
    /// are connected already.
    pub(crate) fn at_start(&self) -> Permit<'_> {
        Permit {
            breaker: self,
            kind: Kind::Start,
        }
    }

    /// Waits until the caller may connect: not at all while the breaker is closed, else until the
    /// pause is over, and then for one caller only.
    pub(crate) async fn permit(&self) -> Permit<'_> {
        let mut phases = self.phase.subscribe();
        loop {
            let phase = *phases.borrow_and_update();
            let until = match phase {
                Phase::Closed { since, .. } => {
                    return Permit {
                        breaker: self,
                        kind: Kind::Closed(since),
                    };
                }
                Phase::Open { until, .. } => Some(until),
                Phase::HalfOpen { .. } => None,
            };
            // Either the pause is over, or another lane was quicker and has come to a verdict.
            tokio::select! {
                () = tokio::time::sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    if self.begin_trial() {
                        return Permit { breaker: self, kind: Kind::Trial };
                    }
                }
                _ = phases.changed() => {}
            }
        }
    }

    /// Closes it without a trial: another breaker decides how often this server is tried.
    pub(crate) fn close(&self) {
        self.change(|phase| {
            let (Phase::Open { pause, .. } | Phase::HalfOpen { pause }) = phase else {
                return None;
            };
            Some(Phase::Closed {
                since: Instant::now(),
                last: pause,
            })
        });
    }

    /// Becomes half-open; `false` if the pause is not over, or another lane tries.
    fn begin_trial(&self) -> bool {
        let begun = self.change(|phase| match phase {
            Phase::Open { until, pause } if until <= Instant::now() => {
                Some(Phase::HalfOpen { pause })
            }
            _ => None,
        });
        if begun {
            self.tell(RemoteEvent::HalfOpen);
        }
        begun
    }

    /// Ends a trial; `false` if it has its verdict already.
    fn end_trial(&self, verdict: Verdict) -> bool {
        self.change(|phase| {
            let Phase::HalfOpen { pause } = phase else {
                return None;
            };
            Some(match verdict {
                Verdict::Passed => Phase::Closed {
                    since: Instant::now(),
                    last: pause,
                },
                Verdict::Failed => self.open_after(pause),
            })
        })
    }
}

impl Permit<'_> {
    /// Whether the server must prove that it takes writes.
    pub(crate) fn is_trial(&self) -> bool {
        self.kind == Kind::Trial
    }

    /// Whether the permit still holds: the breaker has not opened meanwhile.
    pub(crate) fn holds(&self) -> bool {
        self.holds_in(*self.breaker.phase.borrow())
    }

    fn holds_in(&self, phase: Phase) -> bool {
        match (self.kind, phase) {
            (Kind::Start | Kind::Trial, _) => true,
            (Kind::Closed(mine), Phase::Closed { since, .. }) => mine == since,
            (Kind::Closed(_), _) => false,
        }
    }

    /// Waits until the permit does not hold any more.
    pub(crate) async fn revoked(&self) {
        // The sender lives as long as the breaker, so there is no error.
        let _ = self
            .breaker
            .phase
            .subscribe()
            .wait_for(|phase| !self.holds_in(*phase))
            .await;
    }

    /// Says that the server is back.
    pub(crate) fn passed(self) {
        if self.is_trial() {
            self.breaker.end_trial(Verdict::Passed);
            info!(event = "breaker_closed", address = %self.breaker.shown,
                "circuit breaker closed: using Redis again");
            self.breaker.tell(RemoteEvent::Closed);
        }
    }

    /// Says that the server cannot be used. An attempt that began before the breaker last opened
    /// says nothing about it.
    pub(crate) fn failed(self, reason: &dyn fmt::Display) {
        if let Kind::Closed(mine) = self.kind {
            self.breaker.trip_if(reason, |since| since == mine);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_trial() && self.breaker.end_trial(Verdict::Failed) {
            debug!(event = "breaker_trial_failed", address = %self.breaker.shown,
                "circuit breaker stays open: the trial failed");
            self.breaker.tell(RemoteEvent::Opened);
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Breaker")
            .field(&*self.phase.borrow())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(5);

    fn breaker() -> Breaker {
        let config = RedisConfig::new("redis://x")
            .breaker_pause(FIRST)
            .breaker_max_pause(LONGEST);
        Breaker::new(&config, "redis://x".to_owned(), Arc::default())
    }

    /// Waits for a trial, and returns how long that took.
    async fn trial(breaker: &Breaker) -> (Duration, Permit<'_>) {
        let start = Instant::now();
        let permit = breaker.permit().await;
        assert!(permit.is_trial(), "{breaker:?}");
        (start.elapsed(), permit)
    }

    fn is_about(waited: Duration, pause: Duration) -> bool {
        // Timers are exact to a millisecond.
        waited >= pause / 2 && waited <= pause + Duration::from_millis(1)
    }

    #[tokio::test(start_paused = true)]
    async fn closed_breaker_lets_all_connect_at_once() {
        let breaker = breaker();
        let start = Instant::now();
        let (one, other) = (breaker.permit().await, breaker.permit().await);
        assert!(!one.is_trial() && !other.is_trial() && one.holds());
        breaker.trip(&"a time-out");
        assert!(!one.holds(), "what began before does not count");
        one.passed();
        assert_eq!(
            (breaker.state(), start.elapsed()),
            (BreakerState::Open, Duration::ZERO)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_breaker_lets_one_try_and_its_success_lets_all_in() {
        let breaker = breaker();
        breaker.trip(&"a time-out");
        let (waited, trial) = trial(&breaker).await;
        assert!(is_about(waited, FIRST), "{waited:?}");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        breaker.trip(&"what was asked before"); // no verdict
        let second = breaker.permit();
        tokio::pin!(second);
        let nobody = tokio::time::timeout(LONGEST * 10, &mut second).await;
        assert!(nobody.is_err(), "two try at once");
        trial.passed();
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(!second.await.is_trial());
    }

    #[tokio::test(start_paused = true)]
    async fn failed_trials_make_the_pauses_grow_to_their_limit() {
        let breaker = breaker();
        breaker.trip(&"a time-out");
        let mut pause = FIRST;
        for round in 0..12 {
            let (waited, trial) = trial(&breaker).await;
            assert!(is_about(waited, pause), "{waited:?}, not {pause:?}");
            match round % 2 {
                0 => trial.failed(&"no"),
                _ => drop(trial), // whoever tried is gone
            }
            assert_eq!(breaker.state(), BreakerState::Open);
            pause = (pause * 2).min(LONGEST);
        }
        assert_eq!(pause, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn flapping_server_gets_longer_pauses_until_it_was_steady() {
        let breaker = breaker();
        let mut pause = FIRST;
        for _ in 0..12 {
            tokio::time::advance(LONGEST).await; // up for a while, but not for long enough
            breaker.trip(&"a time-out");
            let (waited, trial) = trial(&breaker).await;
            assert!(is_about(waited, pause), "{waited:?}, not {pause:?}");
            trial.passed();
            pause = (pause * 2).min(LONGEST);
        }
        assert_eq!(pause, LONGEST);
        tokio::time::advance(LONGEST * 2).await;
        breaker.trip(&"a time-out");
        let (waited, _trial) = trial(&breaker).await;
        assert!(is_about(waited, FIRST), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_attempt_opens_a_closed_breaker_once() {
        let breaker = breaker();
        let (one, other) = (breaker.permit().await, breaker.permit().await);
        one.failed(&"refused");
        other.failed(&"refused");
        breaker.opened().await;
        let (waited, trial) = trial(&breaker).await;
        assert!(
            is_about(waited, FIRST),
            "both failed in the same outage: {waited:?}"
        );
        trial.passed();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn attempt_from_before_an_outage_says_nothing_after_it() {
        let breaker = breaker();
        let (late, later) = (breaker.permit().await, breaker.permit().await);
        let start = breaker.at_start();
        breaker.trip(&"a time-out");
        late.revoked().await;
        assert!(
            start.holds(),
            "whoever starts is told of its own connection"
        );
        start.failed(&"no");
        let (_, trial) = trial(&breaker).await;
        trial.passed();
        assert!(!late.holds() && breaker.permit().await.holds());
        late.failed(&"it took its time");
        later.passed();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
}
