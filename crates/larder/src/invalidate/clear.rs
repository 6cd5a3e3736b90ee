use std::sync::Arc;

use larder_core::StoreError;

use super::invalidate_tag;
use crate::{
    Error,
    policy::{ActivePolicy, policy_tag},
    process::Process,
};

/// Clears policies in a task of its own, so that it is done also when the caller is gone.
// P25 clear-leaves-nothing: leases before values, then the generation again
pub(crate) async fn clear_policies(
    process: &Arc<Process>,
    policies: Vec<Arc<ActivePolicy>>,
) -> Result<(), Error> {
    let (process, lifecycle) = (process.clone(), process.lifecycle.clone());
    let name = policies
        .first()
        .map(|policy| format!("{}:*", policy.prefix()))
        .unwrap_or_default();
    let cleared = lifecycle.spawn(async move {
        let bump = || {
            policies
                .iter()
                .for_each(|policy| process.generations.bump_policy(policy.index))
        };
        // At once here; and again when L2 has no value, because a read in between could bring an
        // old one back.
        bump();
        let mut done = Ok(());
        for policy in &policies {
            let cleared = clear_remotely(&process, policy).await;
            let all = format_args!("{}:*", policy.prefix());
            done = done.and(cleared.map_err(|error| Error::store(all, error)));
        }
        bump(); // P9 reply-invalidates-again
        done
    })?;
    cleared.await.map_err(|_| Error::Aborted { key: name })?
}

async fn clear_remotely(process: &Process, policy: &ActivePolicy) -> Result<(), StoreError> {
    let Some(leases) = policy.levels.leases() else {
        return Ok(());
    };
    if policy.tagging.instant_clear() {
        return invalidate_tag(process, &policy_tag(policy.prefix())).await;
    }
    leases
        .clear(&format!("{}:", policy.prefix()))
        .await
        .map(|_| ())
}
