//! The way of a read that L1 alone does not serve.

use std::sync::Arc;

use larder_core::{AnyValue, Key, KeyBuf, KeyError, Phase};
use larder_lock::Lookup;

use super::{LoaderCall, Read, error};
use crate::{Error, policy::ActivePolicy, value::CachedValue};

/// A read that L1 alone does not serve.
pub(crate) struct Unserved {
    /// The key, if a store may be asked for it.
    pub(crate) key: Result<Key, KeyError>,
    /// The entry of L1. A value that is fresh or due has been counted as a hit.
    pub(crate) lookup: Lookup<CachedValue>,
}

/// The result of a first look into L1, where that is not a fresh value.
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
            if in_l1(&lookup).is_some() {
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

/// Looks into the levels, without loading. Counts the call, however it ends.
pub(crate) async fn find(
    policy: &Arc<ActivePolicy>,
    unserved: Box<Unserved>,
) -> Result<Option<AnyValue>, Error> {
    let Unserved { key, lookup } = *unserved;
    if let Some(served) = in_l1(&lookup) {
        return Ok(served.value.clone()); // it is counted
    }
    policy
        .reporter
        .counted(async {
            let key = key?;
            policy.lifecycle.check()?;
            let read = Read::new(policy.clone());
            let found = policy.lock.get(&key, &read).await;
            policy.reporter.found(&key, read.call(), found.as_ref());
            Ok(found.and_then(|found| found.value))
        })
        .await
}

/// Looks into the levels, and loads what none of them has. A value that is due is served, and
/// loaded in the background. Counts the call, however it ends.
pub(crate) async fn find_or_load(
    policy: &Arc<ActivePolicy>,
    unserved: Box<Unserved>,
    source: impl FnOnce() -> LoaderCall,
) -> Result<Option<AnyValue>, Error> {
    let Unserved { key, lookup } = *unserved;
    match (lookup, key) {
        (Lookup::Fresh(found), _) => Ok(found.value), // it is counted
        (Lookup::Aging(due), Ok(key)) if due.phase == Phase::Due => {
            let value = due.value.value.clone();
            if policy.lifecycle.check().is_ok() {
                policy
                    .lock
                    .reload(Read::with_load(policy, key, source()), due);
            }
            Ok(value)
        }
        (_, key) => {
            policy
                .reporter
                .counted(async {
                    let key = key?;
                    policy.lifecycle.check()?;
                    let request = Read::with_load(policy, key.clone(), source());
                    let call = request.reader.call();
                    let loaded = policy.lock.get_or_load(request).await;
                    let loaded = loaded.map_err(|failed| error(&key, failed))?;
                    policy.reporter.served(&key, call, &loaded);
                    Ok(loaded.value)
                })
                .await
        }
    }
}

/// Loads a key anew, whatever the levels have. Counts the call, however it ends.
pub(crate) async fn refresh(
    policy: &Arc<ActivePolicy>,
    key: Result<Key, KeyError>,
    source: LoaderCall,
) -> Result<Option<AnyValue>, Error> {
    policy
        .reporter
        .counted(async {
            let key = key?;
            policy.lifecycle.check()?;
            let request = Read::refresh(policy, key.clone(), source);
            let call = request.reader.call();
            let loaded = policy
                .lock
                .refresh(request)
                .await
                .map_err(|failed| error(&key, failed))?;
            policy.reporter.served(&key, call, &loaded);
            Ok(loaded.value)
        })
        .await
}

/// The value that L1 serves at once: fresh, or due.
fn in_l1(lookup: &Lookup<CachedValue>) -> Option<&CachedValue> {
    match lookup {
        Lookup::Fresh(value) => Some(value),
        Lookup::Aging(aging) if aging.phase == Phase::Due => Some(&aging.value),
        _ => None,
    }
}
