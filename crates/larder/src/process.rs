use std::{fmt, sync::Arc, time::Duration};

use larder_core::{Generations, Key, Tags};
use larder_lock::Leases;
use tokio::time::timeout;

use crate::{
    Error,
    invalidate::l1_listener::L1Listener,
    l1::L1,
    outbox::counts::DrainCounts,
    policy::{ActivePolicy, invalidate_locally},
    runtime::{Lifecycle, in_runtime},
};

/// Everything of a larder, shared by the [`Larder`](crate::Larder), its caches and its tasks.
pub(crate) struct Process {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) l1: Arc<L1>,
    pub(crate) leases: Option<Leases>,
    /// In the order of the table.
    pub(crate) policies: Vec<Arc<ActivePolicy>>,
    /// The remote store knows its listener weakly; this keeps it alive.
    pub(crate) _listener: Option<Arc<L1Listener>>,
    pub(crate) drains: Arc<DrainCounts>,
    pub(crate) lifecycle: Arc<Lifecycle>,
}

/// 10 ms: a larder that is closed looks this often whether its store has sent everything.
const LOOK: Duration = Duration::from_millis(10);

impl Process {
    pub(crate) fn invalidate_locally(&self, key: &Key) {
        invalidate_locally(&self.generations, &self.l1, key.as_ref());
    }

    /// The policy of a key: by the prefix with which the key was formatted, or else by its text.
    pub(crate) fn policy_of(&self, key: &Key) -> Option<&ActivePolicy> {
        let mut policies = self.policies.iter().map(|policy| &**policy);
        if !key.prefix().is_empty() {
            return policies.find(|policy| policy.prefix() == key.prefix());
        }
        let names = |policy: &&ActivePolicy| {
            key.as_str()
                .strip_prefix(policy.prefix())
                .is_some_and(|rest| rest.starts_with(':'))
        };
        policies.find(names)
    }

    /// Ends the larder, see [`Larder::close`](crate::Larder::close).
    pub(crate) async fn close(&self, limit: Duration) -> Result<(), Error> {
        in_runtime()?;
        self.lifecycle.close();
        // L1 serves nothing from now on, so that every call comes to where it is refused.
        self.policies
            .iter()
            .for_each(|policy| self.generations.bump_policy(policy.index));
        let ending = async {
            self.lifecycle.idle().await;
            if self.unsent() > 0 {
                self.resume().await;
            }
            while self.unsent() > 0 {
                tokio::time::sleep(LOOK).await;
            }
        };
        // The limit is the caller's own.
        let ended = timeout(limit, ending).await;
        let (running, unsent) = (self.lifecycle.running(), self.unsent());
        self.lifecycle.background.end();
        if ended.is_err() && (running > 0 || unsent > 0) {
            // The store's tasks go on, so that they send the rest when they can, and a later call
            // can wait for that.
            return Err(Error::Unsent {
                running,
                unsent,
                waited: limit,
            });
        }
        if let Some(leases) = &self.leases {
            leases.remote().close();
        }
        Ok(())
    }

    /// The number of invalidations that L2 has yet to be sent.
    fn unsent(&self) -> u64 {
        self.leases
            .as_ref()
            .map_or(0, |leases| leases.remote().stats().unsent)
    }

    /// Has L2 connected again, if the runtime has ended in which it was.
    pub(crate) async fn resume(&self) {
        if let Some(leases) = &self.leases {
            leases.remote().resume().await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.lifecycle.background.end();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("policies", &self.policies)
            .finish_non_exhaustive()
    }
}
