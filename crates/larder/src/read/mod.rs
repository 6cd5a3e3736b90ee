//! One read or load of a key, as the stampede lock drives it.

pub(crate) mod batch;
pub(crate) mod further;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{AnyValue, Committed, Digest, Key, Moment, Phase, Stamp, StoreError, Stored, ValueHeader};
use larder_lock::{Encoded, Failure, Kept, Load, Look, Present, Refusal};
use tokio::time::Instant;

use self::batch::BatchSlot;
use crate::{
    Error, SharedError,
    events::{Level, LoadOutcome},
    policy::{ActivePolicy, L1Entry, Span, TagEpochs, Unpinned},
    stats::Count,
    value::{CachedValue, Outcome, StoredImage},
};

/// A loader, not started yet.
pub(crate) enum Loader {
    /// The key's own. It is shown the value that it is to replace, if there is one.
    Own(OwnLoader),
    /// One for several keys.
    Batch(BatchSlot),
}

type OwnLoader =
    Box<dyn FnOnce(Option<AnyValue>) -> BoxFuture<'static, Result<CachedValue, SharedError>> + Send>;

/// 10 ms: the coarse clock may be behind by a little less.
const TICK: Duration = Duration::from_millis(10);

/// One read of one key.
pub(crate) struct Read {
    policy: Arc<ActivePolicy>,
    key: Key,
    /// Before L2 was asked: what it says about the rest of a life counts from here.
    asked: Moment,
    loader: Option<Loader>,
    began: Option<Instant>,
    /// Whether the load is to replace a value that is still served.
    replaces: bool,
    /// From before the loader ran.
    epochs: TagEpochs,
    /// What L2 was given, and for how long, with a stamp from before.
    written: Option<(Arc<StoredImage>, Span, Stamp)>,
}

impl Read {
    pub(crate) fn new(policy: Arc<ActivePolicy>, key: Key, loader: Option<Loader>) -> Self {
        let asked = policy.clock.now();
        Self {
            policy,
            key,
            asked,
            loader,
            began: None,
            replaces: false,
            epochs: TagEpochs::default(),
            written: None,
        }
    }

    /// What becomes of L2 if a loaded value is not to be kept: then the value that it was to replace
    /// is not kept either.
    fn encode_nothing(&self) -> Encoded {
        if self.replaces { Encoded::Remove } else { Encoded::Nothing }
    }

    /// The same for L1, where there is no L2.
    fn keep_nothing(&self) {
        if self.replaces {
            self.policy.levels.remove(&self.key);
        }
    }
}

/// An entry of L1 as the stampede lock takes it.
pub(crate) fn present(entry: L1Entry) -> Present<Outcome> {
    let L1Entry { value, phase, stamp, tags } = entry;
    Present { value: Ok(CachedValue::plain(value)), phase, stamp, tags, digest: None }
}

impl Look for Read {
    type Value = Outcome;

    fn detached(&self) -> Self {
        Self::new(self.policy.clone(), self.key.clone(), None)
    }

    fn cached(&self) -> Option<Present<Outcome>> {
        if !self.policy.levels.has_l1() {
            return None;
        }
        // P28 stale-only-while-current: not the entry's own stamp, which another key that shares its
        // generation may have outdated long ago. L1 holds only what is current, so what comes from
        // now on counts.
        let stamp = self.policy.levels.stamp(&self.key);
        let entry = self.policy.levels.look_again(self.key.as_ref())?;
        // One that is due was counted where it was served: this is its reload.
        if entry.phase == Phase::Fresh {
            self.policy.reporter.late_hit(&self.key, Level::L1);
        }
        Some(Present { stamp, ..present(entry) })
    }

    async fn accept(&mut self, stored: Stored, stamp: &Stamp) -> Result<Present<Outcome>, Digest> {
        let unusable = || Digest::of(&stored.value);
        let (policy, key) = (&self.policy, &self.key);
        let (header, body) = ValueHeader::read(&stored.value).map_err(|reason| {
            policy.reporter.undecodable(key, &reason);
            unusable()
        })?;
        if policy.tagging.instant_clear() && !header.as_ref().is_some_and(|header| header.of_policy) {
            return Err(unusable()); // P25 clear-leaves-nothing: no clear would remove it
        }
        let tags = match &header {
            // Boxed, so that the read of a value without a header stays small.
            Some(header) => {
                match Box::pin(policy.tagging.judge(policy.levels.lane(key), header)).await {
                    Ok(Some(tags)) => Some(tags),
                    Ok(None) => return Err(unusable()), // P21 tags-pinned-in-time
                    Err(error) => {
                        policy.reporter.remote_failed(&error);
                        return Err(unusable());
                    }
                }
            }
            None => None,
        };
        let value = match policy.codec().decode(body) {
            Ok(None) if !policy.lifetimes.believe_absence(stored.ttl) => return Err(unusable()),
            Ok(value) => value,
            Err(reason) => {
                policy.reporter.undecodable(key, &reason);
                return Err(unusable());
            }
        };
        let span = policy.lifetimes.span_in_remote(stored.ttl, value.is_none());
        let phase = span.phase();
        let digest = (phase != Phase::Fresh).then(unusable);
        // P3 clean-lease-commits: counted from after the answer, so that L2 has let go of it by then.
        let ends = stored.ttl.map_or(Moment::NEVER, |ttl| policy.clock.now() + ttl + TICK);
        let size = stored.value.len();
        let image = |digest| Arc::new(StoredImage::new(digest, size, header.as_ref(), ends));
        let image = digest.clone().map(image);
        if phase != Phase::Stale {
            policy.reporter.late_hit(key, Level::L2);
        }
        let life = (self.asked, span, Kept::Remote);
        policy.keep(key, value.as_ref(), life, *stamp, tags.clone(), Some(size));
        let value = Ok(CachedValue { image, ..CachedValue::plain(value) });
        Ok(Present { value, phase, stamp: *stamp, tags, digest })
    }

    fn asks_more(&self, stored: &Stored) -> bool {
        ValueHeader::is_there(&stored.value)
    }

    fn keeps(&self) -> bool {
        self.policy.levels.has_l1()
    }

    fn needs_ttl(&self) -> bool {
        self.policy.levels.has_l1() || self.policy.lifetimes.depend_on_rest()
    }

    fn served_stale(&mut self) {
        self.policy.reporter.stale(&self.key);
    }

    fn remote_failed(&mut self, error: &StoreError) {
        self.policy.reporter.remote_failed(error);
    }
}

impl Load for Read {
    async fn prepare(&mut self) {
        self.epochs = self.policy.tag_epochs(&self.key).await;
    }

    fn waits(&mut self) {
        if let Some(Loader::Batch(slot)) = &mut self.loader {
            slot.skip();
        }
    }

    fn is_part(&self) -> bool {
        matches!(self.loader, Some(Loader::Batch(_)))
    }

    fn load(&mut self, previous: Option<Outcome>) -> BoxFuture<'static, Outcome> {
        self.epochs.own = self.policy.tagging.own_epoch(); // P22 epoch-before-load
        self.policy.count(Count::Load);
        self.replaces = previous.is_some();
        match previous {
            Some(_) => self.policy.reporter.refresh(&self.key),
            None => self.policy.reporter.miss(&self.key),
        }
        let began = Instant::now();
        self.began = Some(began);
        let Some(loader) = self.loader.take() else {
            return Box::pin(std::future::ready(Self::dropped(&self.key)));
        };
        let (policy, key) = (self.policy.clone(), self.key.clone());
        Box::pin(async move {
            let previous = previous.and_then(Result::ok).filter(|found| found.value.is_some());
            let shown = previous.as_ref().and_then(|previous| previous.value.clone());
            let loaded = match loader {
                Loader::Own(loader) => loader(shown).await.map_err(|source| Error::load(&key, source)),
                Loader::Batch(slot) => slot.load(&key).await,
            };
            let outcome = match (loaded, previous) {
                (Ok(CachedValue { is_renewed: true, ttl, .. }), Some(previous)) => {
                    Ok(CachedValue { is_renewed: true, ttl, ..previous })
                }
                (Ok(CachedValue { is_renewed: true, .. }), None) => {
                    Err(Error::NothingToKeep { key: key.to_string() })
                }
                (outcome, _) => outcome,
            };
            let took = began.elapsed();
            policy.reporter.load_ended(&key, took, outcome_of(&outcome));
            if outcome.is_ok() {
                policy.lifetimes.load_took(took);
            }
            outcome
        })
    }

    fn has_ended(&self, outcome: &Outcome) -> bool {
        let image = outcome.as_ref().ok().and_then(|found| found.image.as_ref());
        image.is_some_and(|image| image.ends <= self.policy.clock.now())
    }

    fn is_failure(outcome: &Outcome) -> bool {
        outcome.is_err()
    }

    fn failed(&mut self, failure: Failure) -> Outcome {
        let key = self.key.to_string();
        let (outcome, error) = match failure {
            Failure::Panicked => (LoadOutcome::Panicked, Error::Panicked { key }),
            Failure::TimedOut(after) => (LoadOutcome::TimedOut, Error::LoadTimedOut { key, after }),
            Failure::Crowded(waited) => (LoadOutcome::Crowded, Error::TooManyLoads { key, waited }),
            Failure::CutOff(error) => (LoadOutcome::CutOff, Error::store(key, error)),
        };
        let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.policy.reporter.load_ended(&self.key, took, outcome);
        Err(error)
    }

    fn timed_out(key: &Key, after: Duration) -> Outcome {
        Err(Error::LoadTimedOut { key: key.to_string(), after })
    }

    fn dropped(key: &Key) -> Outcome {
        Err(Error::Aborted { key: key.to_string() })
    }

    async fn encode(&mut self, outcome: &Outcome) -> Encoded {
        let (Ok(found), Some(_)) = (outcome, self.policy.levels.leases()) else {
            return Encoded::Nothing;
        };
        let Some(span) = self.policy.lifetimes.span(found) else { return self.encode_nothing() };
        let in_remote = span.in_remote();
        if let Some(image) = found.image.as_ref().filter(|_| found.is_renewed) {
            if !self.policy.pin_again(&self.key, image, in_remote).await {
                return Encoded::Refused;
            }
            self.asked = self.policy.clock.now();
            self.written = Some((image.clone(), span, self.policy.levels.stamp(&self.key)));
            return Encoded::Renew(in_remote);
        }
        match self.policy.encode_and_pin(&self.key, found, self.epochs, in_remote).await {
            Ok(Some((bytes, image))) => {
                self.asked = self.policy.clock.now();
                self.written = Some((Arc::new(image), span, self.policy.levels.stamp(&self.key)));
                Encoded::Store(bytes, in_remote)
            }
            Ok(None) => Encoded::Refused,
            Err(reason) => {
                self.policy.reporter.unstorable(&reason);
                self.encode_nothing()
            }
        }
    }

    async fn committed(&mut self, outcome: &Outcome, how: Committed) {
        let Ok(found) = outcome else { return };
        let Some((image, span, before)) = self.written.take() else {
            if self.replaces {
                // P9 reply-invalidates-again: this process is told of it by nobody else
                self.policy.levels.invalidate_locally(&self.key);
            }
            return;
        };
        let (value, tracked) = (found.value.as_ref(), how.tracked(before));
        self.policy.keep_committed(&self.key, value, &image, (self.asked, span), tracked).await;
    }

    fn not_due(&self) -> Duration {
        let not_due = |(_, span, _): &(_, Span, _)| self.policy.lifetimes.not_due(span);
        self.written.as_ref().map_or(Duration::ZERO, not_due)
    }

    fn keep(&mut self, outcome: &Outcome, stamp: &Stamp, kept: Kept) -> bool {
        let Ok(found) = outcome else { return true };
        self.asked = self.policy.clock.now();
        let Some(span) = self.policy.lifetimes.span(found) else {
            self.keep_nothing();
            return true;
        };
        let tags = match found.is_renewed {
            // It has the tags that it had; if it is gone, it was invalidated meanwhile.
            true => match self.policy.levels.look_again(self.key.as_ref()) {
                Some(L1Entry { tags, .. }) => tags,
                None => return false,
            },
            false => match self.policy.tagging.pin_locally(&self.key, found.tags(), self.epochs) {
                Ok(Ok(tags)) => tags,
                Ok(Err(Unpinned)) => return false,
                Err(reason) => {
                    self.policy.reporter.unstorable(&reason);
                    self.keep_nothing();
                    return true;
                }
            },
        };
        let life = (self.asked, span, kept);
        self.policy.keep(&self.key, found.value.as_ref(), life, *stamp, tags, None);
        true
    }

    fn refused(&mut self, why: Refusal) {
        self.policy.reporter.refused(&self.key);
        if why == Refusal::Lease {
            self.policy.count(Count::LeaseLost);
        }
    }
}

fn outcome_of(outcome: &Outcome) -> LoadOutcome {
    match outcome {
        Ok(CachedValue { is_renewed: true, .. }) => LoadOutcome::NotModified,
        Ok(CachedValue { value: Some(_), .. }) => LoadOutcome::Loaded,
        Ok(CachedValue { value: None, .. }) => LoadOutcome::Absent,
        Err(Error::Panicked { .. }) => LoadOutcome::Panicked,
        Err(Error::TooManyLoads { .. }) => LoadOutcome::Crowded,
        Err(_) => LoadOutcome::Failed,
    }
}
