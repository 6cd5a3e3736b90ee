//! The numbers of `stats()` for the [`metrics`](https://docs.rs/metrics) facade. A task publishes
//! them once a second, so that no read pays for that.

use std::sync::Arc;

use larder_core::{BreakerState, RemoteStore};
use metrics::{Label, counter, gauge};

use super::{counters::Counters, stats::Stats};
use crate::outbox::counts::DrainCounts;

/// The counters whose numbers are published.
pub(crate) struct Published {
    /// Each policy's labels and counters.
    policies: Vec<(Vec<Label>, Arc<Counters>)>,
    /// The labels of the larder's own numbers.
    labels: Vec<Label>,
    remote: Option<Arc<dyn RemoteStore>>,
    drains: Arc<DrainCounts>,
}

/// The labels of a larder with this name, and of one of its policies.
pub(crate) fn labels(larder: Option<&str>, policy: Option<&str>) -> Vec<Label> {
    let larder = larder.map(|name| Label::new("larder", name.to_owned()));
    let policy = policy.map(|name| Label::new("policy", name.to_owned()));
    larder.into_iter().chain(policy).collect()
}

impl Published {
    pub(crate) fn new<'a>(
        name: Option<&str>,
        policies: impl Iterator<Item = (&'a str, Arc<Counters>)>,
        remote: Option<Arc<dyn RemoteStore>>,
        drains: Arc<DrainCounts>,
    ) -> Self {
        let policies = policies
            .map(|(policy, counters)| (labels(name, Some(policy)), counters))
            .collect();
        Self {
            policies,
            labels: labels(name, None),
            remote,
            drains,
        }
    }

    pub(crate) fn publish(&self) {
        for (labels, counters) in &self.policies {
            let stats = counters.read();
            counter!("larder_misses_total", labels.clone()).absolute(stats.misses());
            for (name, count) in stats.counts() {
                counter!(format!("larder_{name}_total"), labels.clone()).absolute(count);
            }
        }
        let add = |name: &'static str, count| counter!(name, self.labels.clone()).absolute(count);
        let set = |name: &'static str, value| gauge!(name, self.labels.clone()).set(value);
        let Stats {
            outbox_drained,
            outbox_errors,
            ..
        } = self.drains.read();
        add("larder_outbox_drained_total", outbox_drained);
        add("larder_outbox_errors_total", outbox_errors);
        let Some(remote) = &self.remote else { return };
        let stats = Stats::from(remote.stats());
        add("larder_pushes_total", stats.pushes);
        add("larder_lanes_lost_total", stats.lanes_lost);
        add("larder_probe_failures_total", stats.probe_failures);
        add("larder_breaker_opened_total", stats.breaker_opened);
        add("larder_resent_invalidations_total", stats.resent);
        add("larder_data_losses_total", stats.data_losses);
        set("larder_unsent_invalidations", stats.unsent as f64);
        set(
            "larder_breaker_state",
            match stats.breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            },
        );
        if let Some(lag) = stats.push_lag {
            set("larder_push_lag_seconds", lag.as_secs_f64());
        }
        if let Some(names) = stats.tracked_names {
            set("larder_server_tracked_names", names as f64);
        }
    }
}
