use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use larder_core::{BreakerState, RemoteStats};

/// What happened to a store's connections, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) pushes: Count,
    pub(crate) lanes_lost: Count,
    pub(crate) probe_failures: Count,
    pub(crate) opened: Count,
    pub(crate) replayed: Count,
    /// In nanoseconds, plus one; zero before the first probe.
    lag: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    pub(crate) fn add_many(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed); // Relaxed: a count orders nothing
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(crate) fn note_lag(&self, lag: Duration) {
        let nanos = u64::try_from(lag.as_nanos()).unwrap_or(u64::MAX - 1);
        self.lag.store(nanos.saturating_add(1), Ordering::Relaxed);
    }

    pub(crate) fn report(&self, breaker: BreakerState, pending: u64) -> RemoteStats {
        RemoteStats {
            pushes: self.pushes.read(),
            lanes_lost: self.lanes_lost.read(),
            probe_failures: self.probe_failures.read(),
            push_lag: self.lag.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos),
            unsent: pending,
            breaker,
            breaker_opened: self.opened.read(),
            resent: self.replayed.read(),
        }
    }
}
