//! The way of a read that L1 alone does not serve.

use std::sync::Arc;

use larder_core::{AnyValue, Key, KeyBuf, KeyError, Phase};
use larder_lock::Lookup;

use super::{LoaderCall, Read, error};
use crate::{Error, observe::Count, policy::ActivePolicy, value::CachedValue};

/// A read that L1 alone does not serve.
pub(crate) struct Unserved {
    /// The key, if a store may be asked for it.
    pub(crate) key: Result<Key, KeyError>,
    /// What L1 has. A value that is fresh or due has been counted as a hit.
    pub(crate) lookup: Lookup<CachedValue>,
}

/// What a first look into L1 has found, where that is not a fresh value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotFresh {
    Absent,
    Aging,
}

impl Unserved {
    pub(crate) fn new(policy: &ActivePolicy, buf: &KeyBuf, found: NotFresh) -> Self {
        let mut lookup = Lookup::Absent(None);
        let key = buf.check().map(|()| buf.to_key());
        if let (Ok(key), NotFresh::Aging) = (&key, found) {
            lookup = policy.levels.look_again(key);
            if is_hit(&lookup) {
                policy.reporter.l1_hit(buf);
            }
        }
        Self { key, lookup }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn boxed(policy: &ActivePolicy, buf: &KeyBuf, found: NotFresh) -> Box<Self> {
        Box::new(Self::new(policy, buf, found))
    }
}

fn is_hit(lookup: &Lookup<CachedValue>) -> bool {
    match lookup {
        Lookup::Fresh(_) => true,
        Lookup::Aging(aging) => aging.phase == Phase::Due,
        Lookup::Absent(_) | Lookup::Unreachable(_) => false,
    }
}

/// Looks into the levels, without loading.
pub(crate) async fn find(
    policy: &Arc<ActivePolicy>,
    unserved: Box<Unserved>,
) -> Result<Option<AnyValue>, Error> {
    let Unserved { key, lookup } = *unserved;
    let key = key?;
    match lookup {
        Lookup::Fresh(found) => return Ok(found.value),
        Lookup::Aging(due) if due.phase == Phase::Due => return Ok(due.value.value),
        _ => {}
    }
    policy.lifecycle.check()?;
    let found = policy.lock.get(&key, &Read::new(policy.clone())).await;
    if found.is_none() {
        policy.count(Count::Miss);
        policy.reporter.miss(&key);
    }
    Ok(found.and_then(|found| found.value))
}

/// Looks into the levels, and loads what none of them has. A value that is due is served, and
/// loaded in the background.
pub(crate) async fn find_or_load(
    policy: &Arc<ActivePolicy>,
    unserved: Box<Unserved>,
    source: impl FnOnce() -> LoaderCall,
) -> Result<Option<AnyValue>, Error> {
    let Unserved { key, lookup } = *unserved;
    let (key, runtime) = (key?, policy.lifecycle.check());
    match lookup {
        Lookup::Fresh(found) => return Ok(found.value),
        Lookup::Aging(due) if due.phase == Phase::Due => {
            let value = due.value.value.clone();
            if runtime.is_ok() {
                policy
                    .lock
                    .reload(Read::with_load(policy, key, source()), due);
            }
            return Ok(value);
        }
        _ => {}
    }
    runtime?;
    let loaded = policy
        .lock
        .get_or_load(Read::with_load(policy, key.clone(), source()))
        .await;
    Ok(loaded.map_err(|failed| error(&key, failed))?.value)
}

/// Loads a key anew, whatever the levels have.
pub(crate) async fn refresh(
    policy: &Arc<ActivePolicy>,
    key: Key,
    source: LoaderCall,
) -> Result<Option<AnyValue>, Error> {
    policy.lifecycle.check()?;
    let loaded = policy
        .lock
        .refresh(Read::refresh(policy, key.clone(), source))
        .await;
    Ok(loaded.map_err(|failed| error(&key, failed))?.value)
}
