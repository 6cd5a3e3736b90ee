use std::time::Duration;

use super::LoadTask;
use crate::stampede::{
    caller::{Failure, Loader, Reader},
    load_queue::{LoadPermit, RightToLoad},
    verdict::{CROWDED, Stop},
};

impl<R: Reader, L: Loader<Value = R::Value>> LoadTask<R, L> {
    /// Waits until the loader may run.
    pub(super) async fn acquire_right(&mut self) -> Result<(), Stop<L::Error>> {
        if self.right.is_some() {
            return Ok(());
        }
        let (queue, request) = (&self.context.queue, &self.request);
        let is_counted = self.is_counted();
        let permit = if is_counted {
            queue.try_permit()
        } else {
            Some(queue.uncounted())
        };
        let enter = |_: &LoadPermit| queue.try_enter(&request.key, self.leader.stamp());
        let place = permit.as_ref().and_then(enter);
        if let (Some(permit), Some(place)) = (permit, place) {
            self.right = Some(RightToLoad {
                _permit: permit,
                place: Some(place),
            });
            return Ok(());
        }
        if self.is_needless() {
            // It would only keep callers waiting for whom there is nothing to serve.
            self.context.backoff.busy(self.request.key.hash(), CROWDED);
            return Err(Stop::Deserted);
        }
        if !self.is_worth_waiting() {
            return Err(Stop::Displaced);
        }
        let (key, lane) = (&self.request.key, self.leader.stamp().lane());
        let needs_none = async {
            if is_counted {
                self.leader.uncounted().await;
            }
        };
        let waiting =
            self.context
                .queue
                .wait_for_right(key, lane, needs_none, self.until, self.is_overdue);
        let right = tokio::select! {
            biased; // in one order, so that a simulation can be repeated
            () = self.leader.deserted() => return Err(Stop::Deserted),
            right = waiting => right,
        };
        if right.is_none() {
            let waited = self.context.config.limits.max_wait;
            return Err(self.failed(Failure::Crowded(waited), Duration::ZERO));
        }
        self.right = right;
        self.renew_stamp();
        Ok(())
    }

    /// Whether it takes one of `max_loads`: not if that would wait for this load, because it is a
    /// part of a load that has taken one.
    fn is_counted(&self) -> bool {
        let policy = self.context.config.policy;
        let is_nested = self.outer.as_ref().is_some_and(|outer| outer.holds(policy));
        !self.request.in_batch && !is_nested
    }
}
