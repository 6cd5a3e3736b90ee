use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{
    Committed, Digest, Key, LocalStore, Moment, Phase, Stamp, StoreError, Stored, ValueHeader,
};
use larder_lock::{Encoded, Failure, Kept, Load, Look, Present, Refusal};
use tokio::time::Instant;

use crate::{
    Error, SharedError,
    encoding::{Value, decode},
    events::{Level, LoadOutcome},
    gather::Place,
    life::Span,
    row::{Cached, Found, Outcome, RowState},
    stats::Count,
    tags::{Pinned, Sealed, TagEpochs},
};

/// A loader, not started yet.
pub(crate) enum Loader<T: Value> {
    /// The key's own. It is shown the value that it is to replace, if there is one.
    Own(OwnLoader<T>),
    /// One for several keys.
    Part(Place<T>),
}

type OwnLoader<T> =
    Box<dyn FnOnce(Option<Arc<T>>) -> BoxFuture<'static, Result<Found<T>, SharedError>> + Send>;

/// How far the coarse clock may be behind.
const TICK: Duration = Duration::from_millis(10);

/// One read of one key, as the stampede lock drives it.
pub(crate) struct Read<T: Value> {
    row: Arc<RowState<T>>,
    key: Key,
    /// Before L2 was asked: what it says about the rest of a life counts from here.
    asked: Moment,
    loader: Option<Loader<T>>,
    began: Option<Instant>,
    /// Whether the load is to replace a value that is still served.
    replaces: bool,
    /// P22 epoch-before-load: from before the loader ran.
    orders: TagEpochs,
    /// What L2 was given, and for how long, with a stamp from before.
    sealed: Option<(Arc<Sealed>, Span, Stamp)>,
}

impl<T: Value> Read<T> {
    pub(crate) fn new(row: Arc<RowState<T>>, key: Key, loader: Option<Loader<T>>) -> Self {
        let asked = row.shared.clock.now();
        Self {
            row,
            key,
            asked,
            loader,
            began: None,
            replaces: false,
            orders: TagEpochs::default(),
            sealed: None,
        }
    }

    /// What becomes of L2 if a loaded value is not to be kept: then what it was to replace is not either.
    fn encode_nothing(&self) -> Encoded {
        if self.replaces { Encoded::Remove } else { Encoded::Nothing }
    }

    /// The same for L1, where there is no L2.
    fn keep_nothing(&self) {
        if self.replaces {
            self.row.shared.l1.remove(self.key.as_ref());
        }
    }

    /// Tells whether "absent" in L2 may be believed: the policy remembers absence, and no longer than this.
    fn believes_absence(&self, stored: &Stored) -> bool {
        match (self.row.policy.negative_ttl(), stored.ttl) {
            (Some(longest), Some(rest)) => rest <= longest,
            _ => false,
        }
    }
}

impl<T: Value> Look for Read<T> {
    type Value = Outcome<T>;

    fn detached(&self) -> Self {
        Self::new(self.row.clone(), self.key.clone(), None)
    }

    fn cached(&self) -> Option<Present<Outcome<T>>> {
        if !self.row.has_l1 {
            return None;
        }
        // P28 stale-only-while-current: not the entry's own stamp, which another key that shares its cell may have outdated long ago. L1 holds only
        // what is current, so what comes from now on counts.
        let stamp = self.row.stamp(&self.key);
        let cached = self.row.cached(self.key.as_ref())?;
        // One that is due was counted where it was served: this is its reload.
        if cached.phase == Phase::Fresh {
            self.row.counters.add(Count::L1Hit);
            self.row.tell_hit(self.key.as_str(), Level::L1);
        }
        Some(Present { stamp, ..cached.present() })
    }

    async fn accept(&mut self, stored: Stored, stamp: &Stamp) -> Result<Present<Outcome<T>>, Digest> {
        let unusable = || Digest::of(&stored.value);
        let (frame, body) = ValueHeader::read(&stored.value).map_err(|reason| {
            self.row.note_undecodable(&self.key, &reason);
            unusable()
        })?;
        if self.row.policy.instant_clear() && !frame.as_ref().is_some_and(|frame| frame.row) {
            return Err(unusable()); // P25 clear-leaves-nothing: what no clear would remove
        }
        let tags = match (&frame, &self.row.leases) {
            // Boxed, so that the read of a value without a frame stays small.
            (Some(frame), Some(leases)) => match Box::pin(self.row.verify(leases, &self.key, frame)).await {
                Ok(Some(tags)) => Some(tags),
                Ok(None) => return Err(unusable()), // P21 tags-pinned-in-time
                Err(error) => {
                    self.row.note_remote(&error);
                    return Err(unusable());
                }
            },
            _ => None,
        };
        let value = match decode::<T>(body) {
            Ok(Some(value)) => Some(Arc::new(value)),
            Ok(None) if self.believes_absence(&stored) => None,
            Ok(None) => return Err(unusable()),
            Err(reason) => {
                self.row.note_undecodable(&self.key, &reason);
                return Err(unusable());
            }
        };
        let span = self.row.span_in_remote(stored.ttl, value.is_none());
        let phase = span.phase();
        let digest = (phase != Phase::Fresh).then(unusable);
        // P3 clean-lease-commits: from after the answer, so that L2 has let go of it by then.
        let ends = stored.ttl.map_or(Moment::NEVER, |ttl| self.row.shared.clock.now() + ttl + TICK);
        let seal = |digest| Arc::new(Sealed::new(digest, stored.value.len(), frame.as_ref(), ends));
        let sealed = digest.clone().map(seal);
        if phase != Phase::Stale {
            self.row.counters.add(Count::L2Hit);
            self.row.tell_hit(self.key.as_str(), Level::L2);
        }
        if self.row.has_l1 {
            let life = self.row.life(&self.key, self.asked, span, Kept::Remote);
            self.row.keep(&self.key, value.as_ref(), life, *stamp, tags.clone(), Some(stored.value.len()));
        }
        let value = Ok(Found { stored: sealed, ..Found::plain(value) });
        Ok(Present { value, phase, stamp: *stamp, tags, digest })
    }

    fn asks_more(&self, stored: &Stored) -> bool {
        ValueHeader::is_there(&stored.value)
    }

    fn keeps(&self) -> bool {
        self.row.has_l1
    }

    fn needs_ttl(&self) -> bool {
        let policy = &self.row.policy;
        self.row.has_l1
            || policy.negative_ttl().is_some()
            || policy.refresh_ahead().is_some()
            || !policy.stale_for().is_zero()
    }

    fn served_stale(&mut self) {
        self.row.counters.add(Count::StaleHit);
        self.row.tell_stale(&self.key);
    }

    fn remote_failed(&mut self, error: &StoreError) {
        self.row.note_remote(error);
    }
}

impl<T: Value> Load for Read<T> {
    async fn prepare(&mut self) {
        self.orders = self.row.tag_epochs(&self.key).await;
    }

    fn waits(&mut self) {
        if let Some(Loader::Part(place)) = &mut self.loader {
            place.pass();
        }
    }

    fn is_part(&self) -> bool {
        matches!(self.loader, Some(Loader::Part(_)))
    }

    fn load(&mut self, previous: Option<Outcome<T>>) -> BoxFuture<'static, Outcome<T>> {
        self.orders.own = self.row.shared.tags.own_epoch(); // P22 epoch-before-load
        self.row.counters.add(Count::Load);
        self.replaces = previous.is_some();
        match previous {
            Some(_) => {
                self.row.counters.add(Count::Refresh);
                self.row.tell_refresh(&self.key);
            }
            None => self.row.tell_miss(&self.key),
        }
        let began = Instant::now();
        self.began = Some(began);
        let Some(loader) = self.loader.take() else {
            return Box::pin(std::future::ready(Self::dropped(&self.key)));
        };
        let (row, key) = (self.row.clone(), self.key.clone());
        Box::pin(async move {
            let previous = previous.and_then(Result::ok).filter(|found| found.value.is_some());
            let shown = previous.as_ref().and_then(|previous| previous.value.clone());
            let loaded = match loader {
                Loader::Own(loader) => loader(shown).await.map_err(|source| Error::load(&key, source)),
                Loader::Part(place) => place.load(&key).await,
            };
            let outcome = match (loaded, previous) {
                (Ok(Found { is_renewed: true, ttl, .. }), Some(previous)) => {
                    Ok(Found { is_renewed: true, ttl, ..previous })
                }
                (Ok(Found { is_renewed: true, .. }), None) => {
                    Err(Error::NothingToKeep { key: key.to_string() })
                }
                (outcome, _) => outcome,
            };
            let took = began.elapsed();
            row.tell_load(&key, took, outcome_of(&outcome));
            match outcome.is_ok() {
                true => row.last_load.took(took),
                false => row.counters.add(Count::LoadError),
            }
            outcome
        })
    }

    fn has_ended(&self, outcome: &Outcome<T>) -> bool {
        let stored = outcome.as_ref().ok().and_then(|found| found.stored.as_ref());
        stored.is_some_and(|stored| stored.ends <= self.row.shared.clock.now())
    }

    fn is_failure(outcome: &Outcome<T>) -> bool {
        outcome.is_err()
    }

    fn failed(&mut self, failure: Failure) -> Outcome<T> {
        self.row.counters.add(Count::LoadError);
        let key = self.key.to_string();
        let (outcome, error) = match failure {
            Failure::Panicked => (LoadOutcome::Panicked, Error::Panicked { key }),
            Failure::TimedOut(after) => (LoadOutcome::TimedOut, Error::LoadTimedOut { key, after }),
            Failure::Crowded(waited) => (LoadOutcome::Crowded, Error::TooManyLoads { key, waited }),
            Failure::CutOff(error) => (LoadOutcome::CutOff, Error::store(key, error)),
        };
        let took = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        self.row.tell_load(&self.key, took, outcome);
        Err(error)
    }

    fn timed_out(key: &Key, after: Duration) -> Outcome<T> {
        Err(Error::LoadTimedOut { key: key.to_string(), after })
    }

    fn dropped(key: &Key) -> Outcome<T> {
        Err(Error::Aborted { key: key.to_string() })
    }

    async fn encode(&mut self, outcome: &Outcome<T>) -> Encoded {
        let (Ok(found), Some(leases)) = (outcome, &self.row.leases) else { return Encoded::Nothing };
        let Some(span) = self.row.span(found) else { return self.encode_nothing() };
        let in_remote = span.in_remote();
        if let Some(stored) = found.stored.as_ref().filter(|_| found.is_renewed) {
            if !self.row.pin_again(leases, &self.key, stored, in_remote).await {
                return Encoded::Refused;
            }
            self.asked = self.row.shared.clock.now();
            self.sealed = Some((stored.clone(), span, self.row.stamp(&self.key)));
            return Encoded::Renew(in_remote);
        }
        match self.row.seal(leases, &self.key, found, self.orders, in_remote).await {
            Ok(Some((bytes, sealed))) => {
                self.asked = self.row.shared.clock.now();
                self.sealed = Some((Arc::new(sealed), span, self.row.stamp(&self.key)));
                Encoded::Store(bytes, in_remote)
            }
            Ok(None) => Encoded::Refused,
            Err(reason) => {
                self.row.note_unstorable(&reason);
                self.encode_nothing()
            }
        }
    }

    async fn committed(&mut self, outcome: &Outcome<T>, how: Committed) {
        let (Ok(found), Some(leases)) = (outcome, &self.row.leases) else { return };
        let Some((sealed, span, before)) = self.sealed.take() else {
            if self.replaces {
                self.row.invalidate_locally(&self.key); // P9 reply-invalidates-again: this process is told of it by nobody else
            }
            return;
        };
        let life = self.row.life(&self.key, self.asked, span, Kept::Remote);
        let (value, tracked) = (found.value.as_ref(), how.tracked(before));
        self.row.keep_committed(leases, &self.key, value, &sealed, life, tracked).await;
    }

    fn not_due(&self) -> Duration {
        self.sealed.as_ref().map_or(Duration::ZERO, |(_, span, _)| self.row.not_due(span))
    }

    fn keep(&mut self, outcome: &Outcome<T>, stamp: &Stamp, kept: Kept) -> bool {
        let Ok(found) = outcome else { return true };
        self.asked = self.row.shared.clock.now();
        let Some(span) = self.row.span(found) else {
            self.keep_nothing();
            return true;
        };
        let tags = match found.is_renewed {
            // It has the tags that it had; if it is gone, it was invalidated meanwhile.
            true => match self.row.cached(self.key.as_ref()) {
                Some(Cached { tags, .. }) => tags,
                None => return false,
            },
            false => match self.row.pin_locally(&self.key, found, self.orders) {
                Ok(Pinned::Kept(tags)) => tags,
                Ok(Pinned::Refused) => return false,
                Err(reason) => {
                    self.row.note_unstorable(&reason);
                    self.keep_nothing();
                    return true;
                }
            },
        };
        let life = self.row.life(&self.key, self.asked, span, kept);
        self.row.keep(&self.key, found.value.as_ref(), life, *stamp, tags, None);
        true
    }

    fn refused(&mut self, why: Refusal) {
        self.row.note_refused(&self.key);
        if why == Refusal::Lease {
            self.row.counters.add(Count::LeaseLost);
        }
    }
}

fn outcome_of<T>(outcome: &Outcome<T>) -> LoadOutcome {
    match outcome {
        Ok(Found { is_renewed: true, .. }) => LoadOutcome::NotModified,
        Ok(Found { value: Some(_), .. }) => LoadOutcome::Loaded,
        Ok(Found { value: None, .. }) => LoadOutcome::Absent,
        Err(Error::Panicked { .. }) => LoadOutcome::Panicked,
        Err(Error::TooManyLoads { .. }) => LoadOutcome::Crowded,
        Err(_) => LoadOutcome::Failed,
    }
}
