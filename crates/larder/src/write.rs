use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{Committed, Invalidated, Key, Life, LocalStore, Replacing, Stamp, StoreError, TagStamp};
use larder_lock::{Kept, Lease, WriteBegun};
use larder_ttl::OnOutage;
use tokio::time::Instant;

use crate::{
    Error,
    encoding::Value,
    larder::in_runtime,
    row::{Found, RowState},
    stats::Count,
    tags::{Pinned, TagEpochs},
};

/// A writer, not started yet: what it returns to the caller, and the value to cache, if there is one.
pub(crate) type Writer<R, T> = BoxFuture<'static, Result<(R, Option<Found<T>>), Error>>;

impl<T: Value> RowState<T> {
    /// Runs a write to its end, in a task of its own: a caller that is dropped does not stop it half-way.
    pub(crate) async fn write<R: Send + 'static>(
        self: Arc<Self>,
        key: Key,
        writer: Writer<R, T>,
    ) -> Result<R, Error> {
        in_runtime()?;
        self.counters.add(Count::Write);
        let name = key.to_string();
        // P19 loads-end-with-callers
        let write = tokio::spawn(self.run_write(key, writer));
        write.await.unwrap_or(Err(Error::Aborted { key: name }))
    }

    async fn run_write<R>(self: Arc<Self>, key: Key, writer: Writer<R, T>) -> Result<R, Error> {
        let begun = self.begin_write(&key).await;
        // P9 reply-invalidates-again: the script may have run, whatever the reply was.
        self.invalidate_locally(&key);
        let lease = begun?;
        // P1 stamp-before-read and P22 epoch-before-load: before the database is written.
        let orders = self.tag_epochs(&key).await;
        let stamp = self.stamp(&key);
        let written = AssertUnwindSafe(writer).catch_unwind().await;
        match written.unwrap_or_else(|_panic| Err(Error::Panicked { key: key.to_string() })) {
            // P18 failed-write-invalidates: a failed write can still have reached the database.
            Err(error) => {
                if let Err(also) = self.withdraw(&key, lease).await {
                    tracing::error!(%key, error = %also, "a write failed, and its entry could not be invalidated");
                }
                Err(error)
            }
            Ok((reply, None)) => self.withdraw(&key, lease).await.map(|()| reply),
            Ok((reply, Some(found))) => {
                self.store(&key, lease, (stamp, orders), &found).await.map(|()| reply)
            }
        }
    }

    /// Gets the writer's lease. `None` says that there is no L2, or that it is out of reach: then the invalidation
    /// is remembered, before the database is touched.
    async fn begin_write(&self, key: &Key) -> Result<Option<Lease>, Error> {
        let Some(leases) = &self.leases else { return Ok(None) };
        let (start, longest) = (Instant::now(), self.policy.max_wait());
        loop {
            match leases.begin_write(key, self.policy.lease()).await {
                Ok(WriteBegun::Leased(lease)) => return Ok(Some(lease)),
                Ok(WriteBegun::Busy(waiter)) => {
                    // The caller waits no longer than its policy says.
                    let rest = longest.saturating_sub(start.elapsed());
                    if tokio::time::timeout(rest, waiter.wait()).await.is_err() {
                        return Err(Error::WriteBusy { key: key.to_string(), waited: longest });
                    }
                }
                // What is there is not a value of ours, and there will be none.
                Ok(WriteBegun::Withdrawn(error)) | Err(error @ StoreError::WrongType { .. }) => {
                    self.note_remote(&error);
                    return match self.policy.on_outage() {
                        OnOutage::Serve => Ok(None),
                        OnOutage::Fail => Err(Error::store(key, error)),
                    };
                }
                Err(error) => {
                    self.note_remote(&error);
                    return Err(Error::store(key, error));
                }
            }
        }
    }

    /// Leaves the key without a value, everywhere, and gives up the lease.
    async fn withdraw(&self, key: &Key, lease: Option<Lease>) -> Result<(), Error> {
        let done = self.withdraw_remotely(key, lease).await;
        self.invalidate_locally(key); // P9 reply-invalidates-again
        done
    }

    async fn withdraw_remotely(&self, key: &Key, lease: Option<Lease>) -> Result<(), Error> {
        let done = match (lease, &self.leases) {
            (Some(lease), _) => lease.invalidate().await,
            (None, Some(leases)) => leases.invalidate(key).await,
            (None, None) => Ok(Invalidated::Done),
        };
        match done {
            Ok(_) | Err(StoreError::WrongType { .. }) => Ok(()),
            Err(source) => Err(Error::NotInvalidated { key: key.to_string(), source }),
        }
    }

    /// Puts the written value into both levels, or leaves the key without one if anybody interfered.
    async fn store(
        &self,
        key: &Key,
        lease: Option<Lease>,
        (stamp, orders): (Stamp, TagEpochs),
        found: &Found<T>,
    ) -> Result<(), Error> {
        let Some(span) = self.span(found) else { return self.withdraw(key, lease).await };
        let asked = self.shared.clock.now();
        match (&self.leases, lease) {
            (Some(leases), Some(mut lease)) => {
                match self.seal(leases, key, found, orders, span.in_remote()).await {
                    Err(reason) => {
                        self.note_unstorable(&reason);
                        return self.withdraw(key, Some(lease)).await;
                    }
                    Ok(None) => {
                        self.note_refused(key);
                        return self.withdraw(key, Some(lease)).await;
                    }
                    Ok(Some((bytes, sealed))) => {
                        let before = self.stamp(key); // P4 l1-read-from-l2
                        match lease.commit(&bytes, span.in_remote(), Replacing::Nothing).await {
                            Ok(how @ (Committed::Stored | Committed::Tracked { .. })) => {
                                let tracked = self.end_write(key, how.tracked(before));
                                let (value, life) = (&found.value, self.life(key, asked, span, Kept::Remote));
                                self.keep_committed(leases, key, value.as_ref(), &sealed, life, tracked)
                                    .await;
                            }
                            // P18 failed-write-invalidates: somebody interfered, so the order of the writes in the database is not known.
                            Ok(Committed::Refused) => {
                                self.note_refused(key);
                                self.counters.add(Count::LeaseLost);
                                return self.withdraw(key, None).await;
                            }
                            Err(error) => {
                                self.note_remote(&error);
                                return self.withdraw(key, Some(lease)).await;
                            }
                        }
                    }
                }
            }
            (leases, _) => {
                // P11 unsent-goes-first: L2 gave no lease, so its value, if there is one, must go, now or before it is read again.
                if let Err(error) = self.withdraw_remotely(key, None).await {
                    self.invalidate_locally(key);
                    return Err(error);
                }
                let tags = match self.pin_locally(key, found, orders) {
                    Ok(Pinned::Kept(tags)) => tags,
                    Ok(Pinned::Refused) => {
                        self.note_refused(key);
                        self.invalidate_locally(key);
                        return Ok(());
                    }
                    Err(reason) => {
                        self.note_unstorable(&reason);
                        self.invalidate_locally(key);
                        return Ok(());
                    }
                };
                let kept = if leases.is_some() { Kept::Degraded } else { Kept::Local };
                let life = self.life(key, asked, span, kept);
                self.keep_written(key, stamp, found, life, tags);
            }
        }
        Ok(())
    }

    /// P15 writer-ends-by-compare: makes a load without a lease, from before this process was connected again, out of date, and returns the stamp
    /// of the written value, if nothing else has made it out of date.
    fn end_write(&self, key: &Key, tracked: Option<Stamp>) -> Option<Stamp> {
        let generations = &self.shared.generations;
        let stamp = tracked.and_then(|stamp| generations.bump_key_if_current(key.hash(), &stamp));
        match stamp {
            Some(_) => self.shared.l1.remove(key.as_ref()),
            None => self.invalidate_locally(key),
        }
        stamp
    }

    /// P15 writer-ends-by-compare: without a lease, a writer's value enters L1 only if no other write or invalidation came since it began, and reads that
    /// began before it ended can no longer replace it.
    fn keep_written(
        &self,
        key: &Key,
        stamp: Stamp,
        found: &Found<T>,
        life: Life,
        tags: Option<Arc<TagStamp>>,
    ) {
        match self.shared.generations.bump_key_if_current(key.hash(), &stamp) {
            Some(stamp) => {
                // What a read has stored since the write began is out of date now, also if nothing takes its place.
                self.shared.l1.remove(key.as_ref());
                self.keep(key, found.value.as_ref(), life, stamp, tags, None);
            }
            None => {
                self.note_refused(key);
                self.invalidate_locally(key);
            }
        }
    }
}
