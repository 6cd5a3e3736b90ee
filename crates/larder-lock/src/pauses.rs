use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder_core::{KeyHash, Phase};
use tokio::time::Instant;

/// Which keys are not to be reloaded for a while: their last reload failed, or another process is at it.
///
/// It holds back only those who have a value to serve meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Pauses(Mutex<Kept>);

/// By the hash of the key: two keys that share one hold each other's reload back, which costs a little freshness.
#[derive(Debug, Default)]
struct Kept {
    pauses: HashMap<KeyHash, Pause>,
    /// How many there may be before those that are over are looked for.
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

/// The pause after the first failure, which is doubled by each further one up to the last.
const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(30);
/// So many pauses are never too many.
const ALWAYS_ROOM: usize = 1024;

impl Pauses {
    /// Tells whether the key, whose value is in this phase, is not to be reloaded now.
    pub(crate) fn is_on(&self, key: KeyHash, phase: Phase) -> bool {
        let is_stale = phase == Phase::Stale;
        let until = |pause: &Pause| if is_stale { pause.until } else { pause.until.max(pause.until_due) };
        self.kept().pauses.get(&key).is_some_and(|pause| Instant::now() < until(pause))
    }

    /// Begins a pause after a failed reload, longer than the last one.
    pub(crate) fn failed(&self, key: KeyHash) {
        let mut kept = self.kept();
        let pause = kept.entry(key);
        pause.after_failure = (2 * pause.after_failure).clamp(FIRST, LAST);
        // Shortened at random, so that what failed together is not tried again together.
        pause.until = Instant::now() + pause.after_failure.mul_f64(1.0 - fastrand::f64() / 4.0);
    }

    /// Begins a pause while another process reloads.
    pub(crate) fn busy(&self, key: KeyHash, rest: Duration) {
        let mut kept = self.kept();
        let pause = kept.entry(key);
        pause.until = pause.until.max(Instant::now() + rest);
    }

    /// Ends the key's pause, after a reload that did not fail.
    pub(crate) fn end(&self, key: KeyHash) {
        let mut kept = self.kept();
        if !kept.pauses.is_empty() {
            kept.pauses.remove(&key); // not hashed where there is none, as it mostly is
        }
    }

    /// Leaves a value alone that is not due for so long, though others may take it for due.
    pub(crate) fn not_due(&self, key: KeyHash, rest: Duration) {
        self.kept().entry(key).until_due = Instant::now() + rest;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing done under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn entry(&mut self, key: KeyHash) -> &mut Pause {
        let now = Instant::now();
        if self.pauses.len() >= self.room.max(ALWAYS_ROOM) {
            // Who fails again that late begins anew.
            self.pauses.retain(|_, pause| now < pause.until.max(pause.until_due) + LAST);
            self.room = 2 * self.pauses.len();
        }
        self.pauses.entry(key).or_insert(Pause { until: now, until_due: now, after_failure: Duration::ZERO })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pause_grows_with_each_failure_and_ends_with_a_success() {
        let pauses = Pauses::default();
        let mut lasted = Vec::new();
        for _ in 0..8 {
            pauses.failed(KeyHash(1));
            let start = Instant::now();
            while pauses.is_on(KeyHash(1), Phase::Stale) {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            lasted.push(start.elapsed());
        }
        assert!(lasted[0] >= FIRST.mul_f64(0.75) && lasted[0] <= FIRST + Duration::from_millis(10));
        assert!(lasted[3] > 4 * FIRST && lasted[7] <= LAST + Duration::from_millis(10), "{lasted:?}");
        pauses.failed(KeyHash(1));
        assert!(pauses.is_on(KeyHash(1), Phase::Stale) && !pauses.is_on(KeyHash(2), Phase::Stale));
        pauses.end(KeyHash(1));
        assert!(!pauses.is_on(KeyHash(1), Phase::Stale));
        pauses.busy(KeyHash(1), Duration::from_secs(10));
        assert!(pauses.is_on(KeyHash(1), Phase::Stale));
        pauses.end(KeyHash(1));
        pauses.not_due(KeyHash(1), Duration::from_secs(10));
        assert!(pauses.is_on(KeyHash(1), Phase::Due) && !pauses.is_on(KeyHash(1), Phase::Stale));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_that_are_over_are_forgotten() {
        let pauses = Pauses::default();
        for key in 0..10_000 {
            pauses.failed(KeyHash(key));
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        assert!(pauses.kept().pauses.len() < 3_000, "{}", pauses.kept().pauses.len());
    }
}
