//! The numbers of `stats()` for the [`metrics`](https://docs.rs/metrics) facade, published once a second, so that no read
//! pays for them.

use std::sync::Arc;

use larder_core::{BreakerState, RemoteStore};

use crate::{Stats, outbox::counts::DrainCounts, stats::Counters};

/// Whose numbers are published.
pub(crate) struct Published {
    /// The policies, by their names in the table.
    pub(crate) policies: Vec<(String, Arc<Counters>)>,
    pub(crate) remote: Option<Arc<dyn RemoteStore>>,
    pub(crate) drains: Arc<DrainCounts>,
}

impl Published {
    pub(crate) fn publish(&self) {
        for (policy, counters) in &self.policies {
            for (name, count) in counters.read().counts() {
                metrics::counter!(format!("larder_{name}_total"), "policy" => policy.clone()).absolute(count);
            }
        }
        let Stats { outbox_drained, outbox_errors, .. } = self.drains.read();
        metrics::counter!("larder_outbox_drained_total").absolute(outbox_drained);
        metrics::counter!("larder_outbox_errors_total").absolute(outbox_errors);
        let Some(remote) = &self.remote else { return };
        let stats = Stats::from(remote.stats());
        metrics::counter!("larder_pushes_total").absolute(stats.pushes);
        metrics::counter!("larder_lanes_lost_total").absolute(stats.lanes_lost);
        metrics::counter!("larder_probe_failures_total").absolute(stats.probe_failures);
        metrics::counter!("larder_breaker_opened_total").absolute(stats.breaker_opened);
        metrics::counter!("larder_resent_invalidations_total").absolute(stats.resent);
        metrics::gauge!("larder_unsent_invalidations").set(stats.unsent as f64);
        metrics::gauge!("larder_breaker_state").set(match stats.breaker {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            BreakerState::Open => 2.0,
        });
        if let Some(lag) = stats.push_lag {
            metrics::gauge!("larder_push_lag_seconds").set(lag.as_secs_f64());
        }
    }
}
