//! The way of a read that L1 alone does not serve.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{AnyValue, Key, KeyBuf, KeyError, Phase};
use larder_lock::{Lookup, Outcome, Request, StampedeLock};

use super::{Load, LoaderCall, Read, error};
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

/// A call on its way to a value. Boxed, so that the future of a hit in L1 stays small.
type Answering<'a> = BoxFuture<'a, Result<Option<AnyValue>, Error>>;

/// Looks into the levels, without loading. Counts the call, however it ends.
pub(crate) fn find(policy: &Arc<ActivePolicy>, unserved: Unserved) -> Answering<'_> {
    let Unserved { key, lookup } = unserved;
    if let Some(served) = in_l1(&lookup) {
        return Box::pin(ready(Ok(served.value.clone()))); // it is counted
    }
    let key = match askable(policy, key) {
        Ok(key) => key,
        Err(error) => return Box::pin(ready(Err(error))),
    };
    Box::pin(async move {
        let read = Read::new(policy.clone());
        let found = policy.lock.get(&key, &read).await;
        policy.reporter.found(&key, read.call(), found.as_ref());
        Ok(found.and_then(|found| found.value))
    })
}

/// Looks into the levels, and loads what none of them has. A value that is due is served, and
/// loaded in the background. Counts the call, however it ends.
pub(crate) fn find_or_load(
    policy: &Arc<ActivePolicy>,
    unserved: Unserved,
    source: impl FnOnce() -> LoaderCall,
) -> Answering<'_> {
    let Unserved { key, lookup } = unserved;
    match (lookup, key) {
        (Lookup::Fresh(found), _) => Box::pin(ready(Ok(found.value))), // it is counted
        (Lookup::Aging(due), Ok(key)) if due.phase == Phase::Due => {
            let value = due.value.value.clone();
            if policy.lifecycle.check().is_ok() {
                policy
                    .lock
                    .reload(Read::with_load(policy, key, source()), due);
            }
            Box::pin(ready(Ok(value)))
        }
        (_, key) => match askable(policy, key) {
            Ok(key) => {
                let request = Read::with_load(policy, key, source());
                answering(policy, request, StampedeLock::get_or_load)
            }
            Err(error) => Box::pin(ready(Err(error))),
        },
    }
}

/// Loads a key anew, whatever the levels have. Counts the call, however it ends.
pub(crate) fn refresh(
    policy: &Arc<ActivePolicy>,
    key: Result<Key, KeyError>,
    source: LoaderCall,
) -> Answering<'_> {
    match askable(policy, key) {
        Ok(key) => {
            let request = Read::refresh(policy, key, source);
            answering(policy, request, StampedeLock::refresh)
        }
        Err(error) => Box::pin(ready(Err(error))),
    }
}

/// The key, if it can be asked for. An error is counted.
fn askable(policy: &ActivePolicy, key: Result<Key, KeyError>) -> Result<Key, Error> {
    key.map_err(Error::from)
        .and_then(|key| policy.lifecycle.check().map(|()| key))
        .inspect_err(|_| policy.reporter.failed(1))
}

/// Asks the lock, and counts its answer.
fn answering<'a, F>(
    policy: &'a Arc<ActivePolicy>,
    request: Request<Read, Load>,
    ask: impl FnOnce(&'a StampedeLock<CachedValue, Error>, Request<Read, Load>) -> F,
) -> Answering<'a>
where
    F: Future<Output = Outcome<CachedValue, Error>> + Send + 'a,
{
    let (key, call) = (request.key.clone(), request.reader.call());
    // Not an `async` block, which would hold the lock's future and the request side by side.
    Box::pin(
        ask(&policy.lock, request).map(move |outcome| match outcome {
            Ok(value) => {
                policy.reporter.served(&key, call, &value);
                Ok(value.value)
            }
            Err(failed) => {
                policy.reporter.failed(1);
                Err(error(&key, failed))
            }
        }),
    )
}

/// The value that L1 serves at once: fresh, or due.
fn in_l1(lookup: &Lookup<CachedValue>) -> Option<&CachedValue> {
    match lookup {
        Lookup::Fresh(value) => Some(value),
        Lookup::Aging(aging) if aging.phase == Phase::Due => Some(&aging.value),
        _ => None,
    }
}
