use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use larder_core::{Generations, Key, Tags};
use larder_lock::Leases;
use tokio::task::AbortHandle;

use crate::{
    invalidate::push_listener::L1Listener,
    l1::L1,
    outbox::counts::DrainCounts,
    policy::{ActivePolicy, invalidate_locally},
};

/// Everything of a larder, shared by the [`Larder`](crate::Larder), its caches and its tasks.
pub(crate) struct Process {
    pub(crate) generations: Arc<Generations>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) l1: Arc<L1>,
    pub(crate) leases: Option<Leases>,
    /// In the order of the table.
    pub(crate) policies: Vec<Arc<ActivePolicy>>,
    /// The remote store knows its listener weakly; this keeps it alive.
    pub(crate) _listener: Option<Arc<L1Listener>>,
    pub(crate) drains: Arc<DrainCounts>,
    /// The tasks that end with the larder.
    pub(crate) housekeeping: AbortHandle,
    pub(crate) draining: OnceLock<AbortHandle>,
}

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
            key.as_str().strip_prefix(policy.prefix()).is_some_and(|rest| rest.starts_with(':'))
        };
        policies.find(names)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.housekeeping.abort();
        if let Some(task) = self.draining.get() {
            task.abort();
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("policies", &self.policies).finish_non_exhaustive()
    }
}
