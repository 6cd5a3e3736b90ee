//! The numbers of `stats()` for the [`metrics`](https://docs.rs/metrics) facade, published once a second, so that no read
//! pays for them.

use std::sync::Arc;

use larder_core::RemoteStore;

use crate::{Stats, intents::Numbers, stats::Counters};

/// Whose numbers are published.
pub(crate) struct Published {
    /// The rows, by their names in the table.
    pub(crate) rows: Vec<(String, Arc<Counters>)>,
    pub(crate) remote: Option<Arc<dyn RemoteStore>>,
    pub(crate) replays: Arc<Numbers>,
}

impl Published {
    pub(crate) fn publish(&self) {
        for (row, counters) in &self.rows {
            for (name, count) in counters.read().counts() {
                metrics::counter!(format!("larder_{name}_total"), "row" => row.clone()).absolute(count);
            }
        }
        let Stats { replayed, replay_errors, .. } = self.replays.read();
        metrics::counter!("larder_replayed_total").absolute(replayed);
        metrics::counter!("larder_replay_errors_total").absolute(replay_errors);
        let Some(remote) = &self.remote else { return };
        let Stats { pushes, lanes_lost, probe_failures, push_lag, pending, .. } = remote.report().into();
        metrics::counter!("larder_pushes_total").absolute(pushes);
        metrics::counter!("larder_lanes_lost_total").absolute(lanes_lost);
        metrics::counter!("larder_probe_failures_total").absolute(probe_failures);
        metrics::gauge!("larder_pending_invalidations").set(pending as f64);
        if let Some(lag) = push_lag {
            metrics::gauge!("larder_push_lag_seconds").set(lag.as_secs_f64());
        }
    }
}
