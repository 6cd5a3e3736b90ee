use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use larder_core::{KeyHash, Phase};
use tokio::time::Instant;

use crate::sync::lock;

/// Keys that are not to be reloaded for a while: their last reload failed, or another process
/// reloads them.
///
/// It holds back only callers that have a value to serve meanwhile.
#[derive(Debug, Default)]
pub(crate) struct ReloadBackoff(Mutex<Backoffs>);

/// By the hash of the key: two keys that share one hold each other's reload back, which costs a
/// little freshness.
#[derive(Debug, Default)]
struct Backoffs {
    pauses: HashMap<KeyHash, Pause>,
    /// The number of pauses from which on those that are over are removed.
    room: usize,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    /// A value that is not stale yet is left alone until then too.
    until_due: Instant,
    /// The pause after the last failure.
    after_failure: Duration,
}

/// 1 s: the pause after the first failure. Each further one doubles it, up to 30 s.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);
/// 1,024 pauses are never too many.
const ALWAYS_ROOM: usize = 1024;

impl ReloadBackoff {
    /// Tells whether the key, whose value is in this phase, is not to be reloaded now.
    pub(crate) fn is_on(&self, key: KeyHash, phase: Phase) -> bool {
        let is_stale = phase == Phase::Stale;
        let until = |pause: &Pause| {
            if is_stale {
                pause.until
            } else {
                pause.until.max(pause.until_due)
            }
        };
        self.backoffs()
            .pauses
            .get(&key)
            .is_some_and(|pause| Instant::now() < until(pause))
    }

    /// Begins a pause after a failed reload, longer than the last one.
    pub(crate) fn failed(&self, key: KeyHash) {
        let mut backoffs = self.backoffs();
        let pause = backoffs.entry(key);
        pause.after_failure = (2 * pause.after_failure).clamp(FIRST, LAST);
        // Shortened at random, so that what failed together is not tried again together.
        pause.until = Instant::now() + pause.after_failure.mul_f64(1.0 - fastrand::f64() / 4.0);
    }

    /// Begins a pause while another process reloads.
    pub(crate) fn busy(&self, key: KeyHash, rest: Duration) {
        let mut backoffs = self.backoffs();
        let pause = backoffs.entry(key);
        pause.until = pause.until.max(Instant::now() + rest);
    }

    /// Ends the key's pause, after a reload that did not fail.
    pub(crate) fn end(&self, key: KeyHash) {
        let mut backoffs = self.backoffs();
        if !backoffs.pauses.is_empty() {
            backoffs.pauses.remove(&key); // not hashed where there is none, as it mostly is
        }
    }

    /// Leaves a value alone that is not due for so long, although its readers may take it for due.
    pub(crate) fn not_due(&self, key: KeyHash, rest: Duration) {
        self.backoffs().entry(key).until_due = Instant::now() + rest;
    }

    fn backoffs(&self) -> MutexGuard<'_, Backoffs> {
        lock(&self.0)
    }
}

impl Backoffs {
    fn entry(&mut self, key: KeyHash) -> &mut Pause {
        let now = Instant::now();
        if self.pauses.len() >= self.room.max(ALWAYS_ROOM) {
            // A key that fails again later than that begins anew.
            self.pauses
                .retain(|_, pause| now < pause.until.max(pause.until_due) + LAST);
            self.room = 2 * self.pauses.len();
        }
        self.pauses.entry(key).or_insert(Pause {
            until: now,
            until_due: now,
            after_failure: Duration::ZERO,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pause_grows_with_each_failure_and_ends_with_a_success() {
        let backoff = ReloadBackoff::default();
        let mut lasted = Vec::new();
        for _ in 0..8 {
            backoff.failed(KeyHash(1));
            let start = Instant::now();
            while backoff.is_on(KeyHash(1), Phase::Stale) {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            lasted.push(start.elapsed());
        }
        assert!(lasted[0] >= FIRST.mul_f64(0.75) && lasted[0] <= FIRST + Duration::from_millis(10));
        assert!(
            lasted[3] > 4 * FIRST && lasted[7] <= LAST + Duration::from_millis(10),
            "{lasted:?}"
        );
        backoff.failed(KeyHash(1));
        assert!(
            backoff.is_on(KeyHash(1), Phase::Stale) && !backoff.is_on(KeyHash(2), Phase::Stale)
        );
        backoff.end(KeyHash(1));
        assert!(!backoff.is_on(KeyHash(1), Phase::Stale));
        backoff.busy(KeyHash(1), Duration::from_secs(10));
        assert!(backoff.is_on(KeyHash(1), Phase::Stale));
        backoff.end(KeyHash(1));
        backoff.not_due(KeyHash(1), Duration::from_secs(10));
        assert!(backoff.is_on(KeyHash(1), Phase::Due) && !backoff.is_on(KeyHash(1), Phase::Stale));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_that_are_over_are_forgotten() {
        let backoff = ReloadBackoff::default();
        for key in 0..10_000 {
            backoff.failed(KeyHash(key));
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        assert!(
            backoff.backoffs().pauses.len() < 3_000,
            "{}",
            backoff.backoffs().pauses.len()
        );
    }
}
