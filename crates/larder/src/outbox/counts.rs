use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tracing::{info, warn};

use crate::Stats;

/// Counts what is done for outboxes; Relaxed throughout, because the counts order nothing.
#[derive(Debug, Default)]
pub(crate) struct DrainCounts {
    confirmed: AtomicU64,
    errors: AtomicU64,
    /// Whether the last drain failed, so that only the first failure in a row is logged.
    failing: AtomicBool,
}

impl DrainCounts {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            outbox_drained: self.confirmed.load(Ordering::Relaxed),
            outbox_errors: self.errors.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }

    pub(crate) fn add_confirmed(&self, count: u64) {
        self.confirmed.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes note of how a drain in the background ended: with this error, or well.
    pub(crate) fn drain_ended(&self, error: Option<String>) {
        match error {
            None if self.failing.swap(false, Ordering::Relaxed) => {
                info!("the outbox is drained again");
            }
            None => {}
            Some(reason) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(
                        reason,
                        "the outbox cannot be drained; further failures are only counted"
                    );
                }
            }
        }
    }
}
