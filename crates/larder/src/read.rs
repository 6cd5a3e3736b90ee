use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{Digest, Frame, Key, Moment, Stamp, StoreError, Stored};
use larder_lock::{Encoded, Failure, Kept, Load, Look, Refusal};

use crate::{
    Error,
    encoding::{Value, decode},
    row::{Found, Outcome, RowState},
    stats::Count,
    tags::{Held, Orders, Sealed},
};

/// A loader, not started yet.
pub(crate) type Loader<T> = Box<dyn FnOnce() -> BoxFuture<'static, Outcome<T>> + Send>;

/// One read of one key, as the stampede lock drives it.
pub(crate) struct Read<T> {
    row: Arc<RowState<T>>,
    key: Key,
    /// Before L2 was asked: what it says about the rest of a life counts from here.
    asked: Moment,
    loader: Option<Loader<T>>,
    /// P22: from before the loader ran.
    orders: Orders,
    /// What L2 was given, and for how long.
    sealed: Option<(Sealed, Duration)>,
}

impl<T: Value> Read<T> {
    pub(crate) fn new(row: Arc<RowState<T>>, key: Key, loader: Option<Loader<T>>) -> Self {
        let asked = row.shared.clock.now();
        Self { row, key, asked, loader, orders: Orders::default(), sealed: None }
    }

    /// Tells whether "absent" in L2 may be believed: the row remembers absence, and no longer than this.
    fn believes_absence(&self, stored: &Stored) -> bool {
        match (self.row.policy.negative_ttl(), stored.ttl) {
            (Some(longest), Some(rest)) => rest <= longest,
            _ => false,
        }
    }
}

impl<T: Value> Look for Read<T> {
    type Value = Outcome<T>;

    fn cached(&self) -> Option<Outcome<T>> {
        let value = self.row.cached(self.key.as_ref())?;
        self.row.counters.add(Count::L1Hit);
        Some(Ok(Found::plain(value)))
    }

    async fn accept(&mut self, stored: Stored, stamp: &Stamp) -> Result<Outcome<T>, Digest> {
        let unusable = || Digest::of(&stored.value);
        let (frame, body) = Frame::read(&stored.value).map_err(|reason| {
            self.row.note_undecodable(&self.key, &reason);
            unusable()
        })?;
        if self.row.policy.framed() && !frame.as_ref().is_some_and(|frame| frame.row) {
            return Err(unusable()); // P25: what no clear would remove
        }
        let tags = match (&frame, &self.row.leases) {
            (Some(frame), Some(leases)) => match self.row.verify(leases, &self.key, frame).await {
                Ok(Some(tags)) => Some(tags),
                Ok(None) => return Err(unusable()), // P21
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
        self.row.counters.add(Count::L2Hit);
        let deadline = self.row.deadline(&self.key, self.asked, stored.ttl, Kept::Remote);
        self.row.keep(&self.key, value.as_ref(), deadline, *stamp, tags, Some(stored.value.len()));
        Ok(Ok(Found::plain(value)))
    }

    fn keeps(&self) -> bool {
        self.row.has_l1
    }

    fn needs_ttl(&self) -> bool {
        self.row.has_l1 || self.row.policy.negative_ttl().is_some()
    }

    fn remote_failed(&mut self, error: &StoreError) {
        self.row.note_remote(error);
    }
}

impl<T: Value> Load for Read<T> {
    async fn prepare(&mut self) {
        self.orders = self.row.orders(&self.key).await;
    }

    fn load(&mut self) -> BoxFuture<'static, Outcome<T>> {
        self.orders.own = self.row.shared.tags.own_order(); // P22
        self.row.counters.add(Count::Load);
        let counters = self.row.counters.clone();
        match self.loader.take() {
            Some(loader) => Box::pin(async move {
                let outcome = loader().await;
                if outcome.is_err() {
                    counters.add(Count::LoadError);
                }
                outcome
            }),
            None => Box::pin(std::future::ready(Self::dropped(&self.key))),
        }
    }

    fn failed(&mut self, failure: Failure) -> Outcome<T> {
        self.row.counters.add(Count::LoadError);
        let key = self.key.to_string();
        Err(match failure {
            Failure::Panicked => Error::Panicked { key },
            Failure::TimedOut(after) => Error::LoadTimedOut { key, after },
        })
    }

    fn dropped(key: &Key) -> Outcome<T> {
        Err(Error::Aborted { key: key.to_string() })
    }

    async fn encode(&mut self, outcome: &Outcome<T>) -> Encoded {
        let (Ok(found), Some(leases)) = (outcome, &self.row.leases) else { return Encoded::Nothing };
        let Some(ttl) = self.row.ttl(found) else { return Encoded::Nothing };
        match self.row.seal(leases, &self.key, found, self.orders, ttl).await {
            Ok(Some((bytes, sealed))) => {
                self.asked = self.row.shared.clock.now();
                self.sealed = Some((sealed, ttl));
                Encoded::Store(bytes, ttl)
            }
            Ok(None) => Encoded::Refused,
            Err(reason) => {
                self.row.note_unstorable(&reason);
                Encoded::Nothing
            }
        }
    }

    async fn committed(&mut self, outcome: &Outcome<T>) {
        let (Ok(found), Some(leases), Some((sealed, ttl))) = (outcome, &self.row.leases, self.sealed.take())
        else {
            return;
        };
        let deadline = self.row.deadline(&self.key, self.asked, Some(ttl), Kept::Remote);
        self.row.keep_committed(leases, &self.key, found, &sealed, deadline).await;
    }

    fn keep(&mut self, outcome: &Outcome<T>, stamp: &Stamp, kept: Kept) -> bool {
        let Ok(found) = outcome else { return true };
        self.asked = self.row.shared.clock.now();
        let Some(ttl) = self.row.ttl(found) else { return true };
        let tags = match self.row.hold_locally(found, self.orders) {
            Ok(Held::Kept(tags)) => tags,
            Ok(Held::Refused) => return false,
            Err(reason) => {
                self.row.note_unstorable(&reason);
                return true;
            }
        };
        let deadline = self.row.deadline(&self.key, self.asked, Some(ttl), kept);
        self.row.keep(&self.key, found.value.as_ref(), deadline, *stamp, tags, None);
        true
    }

    fn refused(&mut self, why: Refusal) {
        tracing::debug!(key = %self.key, ?why, "a loaded value is kept nowhere: somebody wrote or invalidated meanwhile");
        self.row.counters.add(Count::Refused);
        if why == Refusal::Lease {
            self.row.counters.add(Count::LeaseLost);
        }
    }
}
