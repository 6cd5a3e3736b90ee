//! A read of a key and its load, as the stampede lock drives them: the facade's answers to it.

pub(crate) mod batch;
pub(crate) mod further;
mod write_back;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use larder_core::{AnyValue, Digest, Key, Moment, Phase, Stamp, Stored, TagStamp, ValueHeader};
use larder_lock::{
    Accepting, Aging, Destination, Event, Failure, Kept, LoadError, Loader, Lookup, Reader,
    Refusal, Request, TagEpochs, WrittenBack,
};
use tokio::time::Instant;

use self::{
    batch::{BatchPart, BatchSlot},
    write_back::WriteBack,
};
use crate::{
    Error, SharedError,
    observe::{Count, LoadOutcome},
    policy::ActivePolicy,
    value::{CachedValue, CallId, Origin, StoredImage},
};

/// A loader of the application, not started yet.
pub(crate) enum LoaderCall {
    /// The key's own. It is shown the value that it is to replace, if there is one.
    Own(OwnLoader),
    /// One for several keys.
    Batch(BatchSlot),
}

type OwnLoader = Box<
    dyn FnOnce(Option<AnyValue>) -> BoxFuture<'static, Result<CachedValue, SharedError>> + Send,
>;

/// One read.
#[derive(Clone)]
pub(crate) struct Read {
    policy: Arc<ActivePolicy>,
    /// The call that it is for.
    call: CallId,
    /// Before L2 was asked: the rest of a life that L2 tells counts from here.
    asked: Moment,
    /// Its part in the load of several keys.
    part: Option<BatchPart>,
}

/// The load that a read brings along.
pub(crate) struct Load {
    policy: Arc<ActivePolicy>,
    call: CallId,
    source: Option<LoaderCall>,
    /// Whether it is to replace a value that is still served.
    replaces: bool,
    is_refresh: bool,
}

impl Read {
    pub(crate) fn new(policy: Arc<ActivePolicy>) -> Self {
        let (call, asked) = (policy.reporter.next_call(), policy.clock.now());
        Self {
            policy,
            call,
            asked,
            part: None,
        }
    }

    pub(crate) fn call(&self) -> CallId {
        self.call
    }

    /// A read that loads what it does not find.
    pub(crate) fn with_load(
        policy: &Arc<ActivePolicy>,
        key: Key,
        source: LoaderCall,
    ) -> Request<Self, Load> {
        let (part, in_batch) = match &source {
            LoaderCall::Own(_) => (None, false),
            LoaderCall::Batch(slot) => (Some(slot.part().clone()), true),
        };
        let policy = policy.clone();
        let reader = Self {
            part,
            ..Self::new(policy.clone())
        };
        let (call, source) = (reader.call, Some(source));
        let loader = Load {
            policy,
            call,
            source,
            replaces: false,
            is_refresh: false,
        };
        Request {
            key,
            reader,
            loader,
            in_batch,
        }
    }

    /// A load that replaces what the levels have.
    pub(crate) fn refresh(
        policy: &Arc<ActivePolicy>,
        key: Key,
        source: LoaderCall,
    ) -> Request<Self, Load> {
        let mut request = Self::with_load(policy, key, source);
        request.loader.is_refresh = true;
        request
    }

    /// Judges a value whose tags have been judged, and keeps it in L1.
    fn judge(
        &self,
        key: &Key,
        stored: &Stored,
        header: Option<&ValueHeader<'_>>,
        body: &[u8],
        tags: Option<Arc<TagStamp>>,
        (ends, stamp): (Moment, Stamp),
    ) -> Lookup<CachedValue> {
        let policy = &self.policy;
        let value = match policy.codec().decode(body) {
            Ok(None) if !policy.lifetimes.believe_absence(stored.ttl) => return unusable(stored),
            Ok(value) => value,
            Err(reason) => {
                policy.reporter.undecodable(key, &reason);
                return unusable(stored);
            }
        };
        let span = policy.lifetimes.span_in_remote(stored.ttl, value.is_none());
        let (phase, size) = (span.phase(), stored.value.len());
        let life = (self.asked, span, Kept::Remote);
        policy.keep(key, value.as_ref(), life, stamp, tags.clone(), Some(size));
        let origin = if phase == Phase::Stale {
            Origin::Stale
        } else {
            Origin::L2(self.call)
        };
        let value = CachedValue {
            origin,
            ..CachedValue::plain(value)
        };
        if phase == Phase::Fresh {
            return Lookup::Fresh(value);
        }
        let digest = Digest::of(&stored.value);
        let image = Some(Arc::new(StoredImage::new(digest.clone(), size, header)));
        let value = CachedValue { image, ..value };
        Lookup::Aging(Aging {
            value,
            phase,
            stamp,
            tags,
            digest: Some(digest),
            ends,
        })
    }
}

/// Bytes that a load may replace.
fn unusable(stored: &Stored) -> Lookup<CachedValue> {
    Lookup::Absent(Some(Digest::of(&stored.value)))
}

impl Reader for Read {
    type Value = CachedValue;

    fn look(&self, key: &Key) -> Lookup<CachedValue> {
        let mut lookup = self.policy.levels.look_again(key);
        match &mut lookup {
            Lookup::Fresh(value) => value.origin = Origin::L1(self.call),
            Lookup::Aging(aging) => {
                let is_stale = aging.phase == Phase::Stale;
                aging.value.origin = if is_stale {
                    Origin::Stale
                } else {
                    Origin::L1(self.call)
                };
            }
            Lookup::Absent(_) | Lookup::Unreachable(_) => {}
        }
        lookup
    }

    fn accept<'a>(
        &'a self,
        key: &'a Key,
        stored: Stored,
        ends: Moment,
        stamp: Stamp,
    ) -> Accepting<'a, CachedValue> {
        let tagging = &self.policy.tagging;
        if !ValueHeader::is_there(&stored.value) {
            // P25 clear-leaves-nothing: no clear would remove a value without the policy's tag
            if tagging.instant_clear() {
                return Accepting::Done(unusable(&stored));
            }
            let body = &stored.value;
            return Accepting::Done(self.judge(key, &stored, None, body, None, (ends, stamp)));
        }
        Accepting::Asking(Box::pin(async move {
            let (header, body) = match ValueHeader::read(&stored.value) {
                Ok((Some(header), body)) => (header, body),
                Ok((None, _)) => return unusable(&stored),
                Err(reason) => {
                    self.policy.reporter.undecodable(key, &reason);
                    return unusable(&stored);
                }
            };
            // P25 clear-leaves-nothing
            if tagging.instant_clear() && !header.policy_tag {
                return unusable(&stored);
            }
            let tags = match tagging.judge(self.policy.levels.lane(key), &header).await {
                Ok(Some(tags)) => Some(tags),
                Ok(None) => return unusable(&stored), // P21 tags-pinned-in-time
                Err(error) => {
                    self.policy.reporter.remote_failed(&error);
                    return unusable(&stored);
                }
            };
            self.judge(key, &stored, Some(&header), body, tags, (ends, stamp))
        }))
    }

    fn observe(&self, key: &Key, event: Event<'_>) {
        let reporter = &self.policy.reporter;
        match event {
            Event::ServedStale => reporter.stale(key),
            Event::RemoteFailed(error) => reporter.remote_failed(error),
            Event::Waiting => {
                if let Some(part) = &self.part {
                    part.skip();
                }
            }
            Event::Refused(why) => {
                reporter.refused(key);
                if why == Refusal::Lease {
                    reporter.count(Count::LeaseLost);
                }
            }
            Event::Failed { why, took } => {
                let outcome = match why {
                    Failure::Panicked => LoadOutcome::Panicked,
                    Failure::TimedOut(_) => LoadOutcome::TimedOut,
                    Failure::Crowded(_) => LoadOutcome::Crowded,
                    Failure::CutOff(_) => LoadOutcome::CutOff,
                    _ => LoadOutcome::Failed,
                };
                reporter.load_ended(key, took, outcome);
            }
        }
    }
}

impl Loader for Load {
    type Value = CachedValue;
    type Error = Error;

    fn load(
        &mut self,
        key: &Key,
        previous: Option<CachedValue>,
    ) -> BoxFuture<'static, Result<CachedValue, Error>> {
        self.policy.count(Count::Load);
        self.replaces = previous.is_some();
        if self.replaces || self.is_refresh {
            self.policy.reporter.refresh(key);
        } else {
            self.policy.reporter.miss(key);
        }
        let Some(source) = self.source.take() else {
            return Box::pin(std::future::ready(Err(Error::Aborted {
                key: key.to_string(),
            })));
        };
        Box::pin(run(
            self.policy.clone(),
            self.call,
            key.clone(),
            source,
            previous,
        ))
    }

    async fn write_back(
        &mut self,
        key: &Key,
        value: &CachedValue,
        epochs: TagEpochs,
        to: Destination<'_>,
    ) -> WrittenBack {
        let write_back = WriteBack {
            policy: &self.policy,
            key,
            replaces: self.replaces,
            is_refresh: self.is_refresh,
        };
        write_back.run(value, epochs, to).await
    }
}

/// Runs a loader of the application, and tells how it ended.
async fn run(
    policy: Arc<ActivePolicy>,
    call: CallId,
    key: Key,
    source: LoaderCall,
    previous: Option<CachedValue>,
) -> Result<CachedValue, Error> {
    let began = Instant::now();
    let previous = previous.filter(|previous| previous.value.is_some());
    let shown = previous
        .as_ref()
        .and_then(|previous| previous.value.clone());
    let loaded = match source {
        LoaderCall::Own(load) => load(shown)
            .await
            .map_err(|source| Error::load(&key, source)),
        LoaderCall::Batch(slot) => slot.load(&key).await,
    };
    let outcome = match (loaded, previous) {
        (
            Ok(CachedValue {
                is_renewed: true,
                ttl,
                ..
            }),
            Some(previous),
        ) => Ok(CachedValue {
            is_renewed: true,
            ttl,
            ..previous
        }),
        (
            Ok(CachedValue {
                is_renewed: true, ..
            }),
            None,
        ) => Err(Error::NothingToKeep {
            key: key.to_string(),
        }),
        (outcome, _) => outcome,
    };
    let took = began.elapsed();
    policy.reporter.load_ended(&key, took, outcome_of(&outcome));
    let value = outcome?;
    policy.lifetimes.load_took(took);
    Ok(CachedValue {
        origin: Origin::Load(call),
        ..value
    })
}

fn outcome_of(outcome: &Result<CachedValue, Error>) -> LoadOutcome {
    match outcome {
        Ok(CachedValue {
            is_renewed: true, ..
        }) => LoadOutcome::NotModified,
        Ok(CachedValue { value: Some(_), .. }) => LoadOutcome::Loaded,
        Ok(CachedValue { value: None, .. }) => LoadOutcome::Absent,
        Err(Error::Panicked { .. }) => LoadOutcome::Panicked,
        Err(Error::TooManyLoads { .. }) => LoadOutcome::Crowded,
        Err(_) => LoadOutcome::Failed,
    }
}

/// The error of a caller whose load has no value.
pub(crate) fn error(key: &Key, error: LoadError<Error>) -> Error {
    let name = || key.to_string();
    match error {
        LoadError::Loader(error) => error,
        LoadError::Failed(failure) => match failure {
            Failure::Panicked => Error::Panicked { key: name() },
            Failure::TimedOut(after) => Error::LoadTimedOut { key: name(), after },
            Failure::Crowded(waited) => Error::TooManyLoads {
                key: name(),
                waited,
            },
            Failure::Deadlock(cycle) => Error::deadlock(key, &cycle),
            Failure::CutOff(error) => Error::store(key, error),
            _ => Error::Aborted { key: name() },
        },
    }
}

#[cfg(test)]
mod tests;
