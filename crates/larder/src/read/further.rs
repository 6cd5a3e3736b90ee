//! The way of a read that L1 alone does not serve.

use std::sync::Arc;

use larder_core::{AnyValue, Key, KeyBuf, KeyError, Phase};

use super::{Loader, Read, present};
use crate::{
    Error,
    policy::{ActivePolicy, L1Entry},
    runtime::in_runtime,
    stats::Count,
};

/// Why L1 alone does not do.
pub(crate) enum Unserved {
    Refused(KeyError),
    /// A hit whose reload should be started.
    Due(Key, L1Entry),
    Miss(Key),
}

impl Unserved {
    /// Tells why a key was not served, for which L1 has this entry or none.
    pub(crate) fn new(policy: &ActivePolicy, key: &KeyBuf, entry: Option<L1Entry>) -> Self {
        match (key.check(), entry) {
            (Err(refusal), _) => Self::Refused(refusal),
            (Ok(()), Some(entry)) if entry.phase == Phase::Due => {
                policy.reporter.l1_hit(key);
                Self::Due(key.to_key(), entry)
            }
            (Ok(()), _) => Self::Miss(key.to_key()),
        }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn boxed(policy: &ActivePolicy, key: &KeyBuf, entry: Option<L1Entry>) -> Box<Self> {
        Box::new(Self::new(policy, key, entry))
    }
}

/// Looks into the levels, without loading.
pub(crate) async fn find(
    policy: &Arc<ActivePolicy>,
    unserved: Box<Unserved>,
) -> Result<Option<AnyValue>, Error> {
    let key = match *unserved {
        Unserved::Refused(refusal) => return Err(refusal.into()),
        Unserved::Due(_, due) => return Ok(due.value),
        Unserved::Miss(key) => key,
    };
    in_runtime()?;
    let mut read = Read::new(policy.clone(), key.clone(), None);
    let found = policy.lock.get(&key, &mut read).await;
    if found.is_none() {
        policy.count(Count::Miss);
        policy.reporter.miss(&key);
    }
    Ok(found.transpose()?.and_then(|found| found.value))
}

/// Looks into the levels, and loads what none of them has. What is due is served, and loaded in the
/// background.
pub(crate) async fn find_or_load(
    policy: &Arc<ActivePolicy>,
    unserved: Box<Unserved>,
    loader: impl FnOnce() -> Loader,
) -> Result<Option<AnyValue>, Error> {
    let (key, due) = match *unserved {
        Unserved::Refused(refusal) => return Err(refusal.into()),
        Unserved::Due(key, due) => (key, Some(due)),
        Unserved::Miss(key) => (key, None),
    };
    let runtime = in_runtime();
    let read = || Read::new(policy.clone(), key.clone(), Some(loader()));
    if let Some(due) = due {
        let value = due.value.clone();
        if runtime.is_ok() {
            policy.lock.reload(&key, present(due), read());
        }
        return Ok(value);
    }
    runtime?;
    Ok(policy.lock.get_or_load(&key, read()).await?.value)
}
