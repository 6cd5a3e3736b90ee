use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use larder_core::{BreakerState, RemoteStats};

/// Counts what happens to a store's connections.
#[derive(Debug, Default)]
pub(crate) struct ConnectionStats {
    pub(crate) pushes: Count,
    pub(crate) lanes_lost: Count,
    pub(crate) probe_failures: Count,
    pub(crate) breaker_opened: Count,
    pub(crate) resent: Count,
    pub(crate) data_losses: Count,
    /// The latest probe's time in nanoseconds, plus one; zero before the first probe.
    push_lag: AtomicU64,
    /// The names that the servers track, plus one; zero while that is not known.
    tracked_names: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed); // Relaxed: a count orders nothing
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ConnectionStats {
    /// Notes the time that a probe's push took to arrive.
    pub(crate) fn note_push_lag(&self, lag: Duration) {
        let nanos = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX - 1);
        self.push_lag
            .store(nanos.saturating_add(1), Ordering::Relaxed);
    }

    /// Notes how many names the servers track, if they tell.
    pub(crate) fn note_tracked_names(&self, count: Option<u64>) {
        let count = count.map_or(0, |count| count.saturating_add(1));
        self.tracked_names.store(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, breaker: BreakerState, unsent: u64) -> RemoteStats {
        RemoteStats {
            pushes: self.pushes.read(),
            lanes_lost: self.lanes_lost.read(),
            probe_failures: self.probe_failures.read(),
            push_lag: self
                .push_lag
                .load(Ordering::Relaxed)
                .checked_sub(1)
                .map(Duration::from_nanos),
            tracked_names: self.tracked_names.load(Ordering::Relaxed).checked_sub(1),
            unsent,
            breaker,
            breaker_opened: self.breaker_opened.read(),
            resent: self.resent.read(),
            data_losses: self.data_losses.read(),
        }
    }
}
