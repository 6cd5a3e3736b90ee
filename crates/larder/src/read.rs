use std::sync::Arc;

use futures_util::future::BoxFuture;
use larder_core::{Digest, Key, Moment, Stamp, StoreError, Stored};
use larder_lock::{Failure, Kept, Load, Look};

use crate::{
    Error,
    encoding::{Value, decode},
    row::{Found, Outcome, RowState},
    stats::Count,
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
    /// The size of the encoded value, and the life that it was given.
    encoded: Option<(usize, std::time::Duration)>,
}

impl<T: Value> Read<T> {
    pub(crate) fn new(row: Arc<RowState<T>>, key: Key, loader: Option<Loader<T>>) -> Self {
        let asked = row.shared.clock.now();
        Self { row, key, asked, loader, encoded: None }
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
        Some(Ok(Found { value, ttl: None }))
    }

    fn accept(&mut self, stored: Stored, stamp: &Stamp) -> Result<Outcome<T>, Digest> {
        let value = match decode::<T>(&stored.value) {
            Ok(Some(value)) => Some(Arc::new(value)),
            Ok(None) if self.believes_absence(&stored) => None,
            Ok(None) => return Err(Digest::of(&stored.value)),
            Err(reason) => {
                self.row.note_undecodable(&self.key, &reason);
                return Err(Digest::of(&stored.value));
            }
        };
        self.row.counters.add(Count::L2Hit);
        let deadline = self.row.deadline(&self.key, self.asked, stored.ttl, Kept::Remote);
        self.row.keep(&self.key, value.as_ref(), deadline, *stamp, Some(stored.value.len()));
        Ok(Ok(Found { value, ttl: None }))
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
    fn load(&mut self) -> BoxFuture<'static, Outcome<T>> {
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

    fn encode(&mut self, outcome: &Outcome<T>) -> Option<(Vec<u8>, std::time::Duration)> {
        let found = outcome.as_ref().ok()?;
        let ttl = self.row.ttl(found)?;
        match self.row.encode(&self.key, found.value.as_deref()) {
            Ok(bytes) => {
                self.asked = self.row.shared.clock.now();
                self.encoded = Some((bytes.len(), ttl));
                Some((bytes, ttl))
            }
            Err(reason) => {
                self.row.note_unstorable(&reason);
                None
            }
        }
    }

    fn keep(&mut self, outcome: &Outcome<T>, stamp: &Stamp, kept: Kept) {
        let Ok(found) = outcome else { return };
        let (size, ttl) = match (kept, self.encoded) {
            (Kept::Remote, Some((size, ttl))) => (Some(size), ttl),
            _ => {
                self.asked = self.row.shared.clock.now();
                let Some(ttl) = self.row.ttl(found) else { return };
                (None, ttl)
            }
        };
        let deadline = self.row.deadline(&self.key, self.asked, Some(ttl), kept);
        self.row.keep(&self.key, found.value.as_ref(), deadline, *stamp, size);
    }

    fn refused(&mut self) {
        self.row.counters.add(Count::Refused);
    }
}
