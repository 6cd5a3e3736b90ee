//! Writes: the database and both levels in one operation.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{Committed, Invalidated, Key, Moment, Replacing, Stamp, StoreError};
use larder_lock::{Kept, Lease, TagEpochs, Work, WriteBegun};
use larder_ttl::OnOutage;
use tokio::time::Instant;

use crate::{
    Error,
    observe::Count,
    policy::{ActivePolicy, PinnedTags, Span, Unpinned},
    process::Process,
    value::CachedValue,
};

/// A writer, not started yet: its reply to the caller, and the value to cache, if there is one.
pub(crate) type Writer<R> = BoxFuture<'static, Written<R>>;

type Written<R> = Result<(R, Option<CachedValue>), Error>;

/// The purpose of a write, which decides what it does where L2 cannot hold its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To write the database: the value is kept where it can be.
    Database,
    /// To cache the value, and nothing else.
    Cache,
}

/// Runs a write to its end, in a task of its own: a caller that is dropped does not stop it
/// half-way.
pub(crate) async fn write<R: Send + 'static>(
    process: Arc<Process>,
    policy: Arc<ActivePolicy>,
    key: Key,
    purpose: Purpose,
    writer: Writer<R>,
) -> Result<R, Error> {
    let (name, lifecycle, counted) = (key.to_string(), process.lifecycle.clone(), policy.clone());
    let outer = Work::current(&policy.nesting).filter(|_| policy.levels.leases().is_some());
    let nested = outer.map(|outer| outer.wait_for_write(&key)).transpose();
    let _nested = nested.map_err(|cycle| Error::deadlock(&key, &cycle))?;
    let work = Work::write(&policy.nesting, &key);
    // P19 loads-end-with-callers: a write does not
    let write = lifecycle.spawn(async move {
        let write = Write {
            policy: &policy,
            key: &key,
            purpose,
        };
        let mut unfinished = Unfinished(Some(&write));
        let done = write.run(work.run(writer)).await;
        unfinished.0 = None;
        drop(process); // until now it has carried pushes to those who wait
        done
    })?;
    counted.count(Count::Write);
    write.await.unwrap_or(Err(Error::Aborted { key: name }))
}

/// One write of one key.
struct Write<'a> {
    policy: &'a ActivePolicy,
    key: &'a Key,
    purpose: Purpose,
}

/// A write that may not come to its end, because its runtime ends before.
struct Unfinished<'a>(Option<&'a Write<'a>>);

impl Drop for Unfinished<'_> {
    // P18 failed-write-invalidates: a write that was cut off can have reached the database
    fn drop(&mut self) {
        if let Some(write) = self.0 {
            write.invalidate_locally();
        }
    }
}

impl Write<'_> {
    async fn run<R>(&self, writer: impl Future<Output = Written<R>>) -> Result<R, Error> {
        let asked = self.policy.levels.stamp(self.key);
        let begun = self.begin().await;
        // P9 reply-invalidates-again: the script may have run, whatever the reply was
        self.invalidate_locally();
        let lease = begun?;
        // P22 epoch-before-load: before the database is written
        let epochs = self.policy.tag_epochs(self.key).await;
        let now = self.policy.levels.stamp(self.key); // P1 stamp-before-read
        // P31 kept-only-while-away: the lane may be back since L2 was asked, and tracks nothing of
        // this. With a lease, the value gets a stamp of its own.
        let stamp = now.with_scope_of(&asked);
        let written = AssertUnwindSafe(writer).catch_unwind().await;
        match written.unwrap_or_else(|_panic| {
            Err(Error::Panicked {
                key: self.key.to_string(),
            })
        }) {
            // P18 failed-write-invalidates: a failed write can still have reached the database
            Err(error) => {
                if let Err(also) = self.withdraw(lease).await {
                    tracing::error!(key = %self.key, error = %also,
                        "a write failed, and its entry could not be invalidated");
                }
                Err(error)
            }
            Ok((reply, None)) => self.withdraw(lease).await.map(|()| reply),
            Ok((reply, Some(value))) => self
                .store(lease, stamp, epochs, &value)
                .await
                .map(|()| reply),
        }
    }

    /// Gets the writer's lease. `None` says that there is no L2, or that it is out of reach: then
    /// the store remembers the invalidation, before the database is touched.
    async fn begin(&self) -> Result<Option<Lease>, Error> {
        let (policy, key) = (self.policy, self.key);
        let Some(leases) = policy.levels.leases() else {
            return Ok(None);
        };
        let (start, longest) = (Instant::now(), policy.settings().max_write_wait());
        loop {
            match leases.begin_write(key, policy.settings().lease()).await {
                Ok(WriteBegun::Leased(lease)) => return Ok(Some(lease)),
                Ok(WriteBegun::Busy(waiter)) => {
                    // The caller waits no longer than its policy says.
                    let rest = longest.saturating_sub(start.elapsed());
                    if tokio::time::timeout(rest, waiter.wait()).await.is_err() {
                        return Err(Error::WriteBusy {
                            key: key.to_string(),
                            waited: longest,
                        });
                    }
                }
                Ok(WriteBegun::Withdrawn(error)) => {
                    policy.reporter.remote_failed(&error);
                    return match policy.settings().on_outage() {
                        OnOutage::Serve => Ok(None),
                        OnOutage::Fail => Err(Error::store(key, error)),
                    };
                }
                // The key holds no value of ours, and there will be none.
                Err(error @ StoreError::WrongType { .. })
                    if self.purpose == Purpose::Database
                        && policy.settings().on_outage() == OnOutage::Serve =>
                {
                    policy.reporter.remote_failed(&error);
                    return Ok(None);
                }
                Err(error) => {
                    policy.reporter.remote_failed(&error);
                    return Err(Error::store(key, error));
                }
            }
        }
    }

    /// Leaves the key without a value, everywhere, and gives up the lease.
    async fn withdraw(&self, lease: Option<Lease>) -> Result<(), Error> {
        let done = self.withdraw_remotely(lease).await;
        self.invalidate_locally(); // P9 reply-invalidates-again
        done
    }

    async fn withdraw_remotely(&self, lease: Option<Lease>) -> Result<(), Error> {
        let done = match (lease, self.policy.levels.leases()) {
            (Some(lease), _) => lease.invalidate().await,
            (None, Some(leases)) => leases.invalidate(self.key).await,
            (None, None) => Ok(Invalidated::Done),
        };
        match done {
            Ok(_) | Err(StoreError::WrongType { .. }) => Ok(()),
            Err(source) => Err(Error::NotInvalidated {
                key: self.key.to_string(),
                source,
            }),
        }
    }

    /// Puts the written value into both levels, or leaves the key without one if anybody
    /// interfered.
    async fn store(
        &self,
        lease: Option<Lease>,
        stamp: Stamp,
        epochs: TagEpochs,
        value: &CachedValue,
    ) -> Result<(), Error> {
        let Some(span) = self.policy.lifetimes.span(value) else {
            return self.withdraw(lease).await;
        };
        let from = self.policy.clock.now();
        match lease {
            Some(lease) => {
                self.store_remotely(lease, epochs, value, (from, span))
                    .await
            }
            None => self.store_locally(stamp, epochs, value, (from, span)).await,
        }
    }

    async fn store_remotely(
        &self,
        mut lease: Lease,
        epochs: TagEpochs,
        value: &CachedValue,
        (from, span): (Moment, Span),
    ) -> Result<(), Error> {
        let (policy, key) = (self.policy, self.key);
        let (bytes, image) = match policy
            .encode_and_pin(key, value, epochs, span.in_remote())
            .await
        {
            Ok(Some(encoded)) => encoded,
            Ok(None) => {
                policy.reporter.refused(key);
                return self.withdraw(Some(lease)).await;
            }
            Err(reason) => {
                policy.reporter.unstorable(&reason);
                return self.withdraw(Some(lease)).await;
            }
        };
        let before = policy.levels.stamp(key); // P4 l1-read-from-l2
        match lease
            .commit(&bytes, span.in_remote(), Replacing::Nothing)
            .await
        {
            Ok(how @ (Committed::Stored | Committed::Tracked { .. })) => {
                let tracked = self.end_with_lease(how.tracked(before));
                let value = value.value.as_ref();
                policy
                    .keep_committed(key, value, &image, (from, span), tracked)
                    .await;
                Ok(())
            }
            // P18 failed-write-invalidates: somebody interfered, so the order of the writes in the
            // database is not known
            Ok(Committed::Refused) => {
                policy.reporter.refused(key);
                policy.count(Count::LeaseLost);
                self.withdraw(None).await
            }
            Err(error) => {
                policy.reporter.remote_failed(&error);
                self.withdraw(Some(lease)).await?;
                match (self.purpose, &error) {
                    (Purpose::Cache, StoreError::WrongType { .. } | StoreError::Refused { .. }) => {
                        Err(Error::store(key, error))
                    }
                    _ => Ok(()),
                }
            }
        }
    }

    async fn store_locally(
        &self,
        stamp: Stamp,
        epochs: TagEpochs,
        value: &CachedValue,
        (from, span): (Moment, Span),
    ) -> Result<(), Error> {
        let policy = self.policy;
        // P11 unsent-goes-first: L2 gave no lease, so its value must go, now or before it is read
        // again
        if let Err(error) = self.withdraw_remotely(None).await {
            self.invalidate_locally();
            return Err(error);
        }
        let kept = if policy.levels.leases().is_some() {
            Kept::Degraded
        } else {
            Kept::Local
        };
        match policy.tagging.pin_locally(self.key, value.tags(), epochs) {
            Ok(Ok(tags)) => self.end_without_lease(stamp, value, (from, span, kept), tags),
            Ok(Err(Unpinned)) => {
                policy.reporter.refused(self.key);
                self.invalidate_locally();
            }
            Err(reason) => {
                policy.reporter.unstorable(&reason);
                self.invalidate_locally();
            }
        }
        Ok(())
    }

    /// Outdates a load without a lease, from before this process was connected again. Returns the
    /// stamp of the written value, if nothing else has outdated it.
    // P15 writer-ends-by-compare: with a lease, L2 has put the writers in order
    fn end_with_lease(&self, tracked: Option<Stamp>) -> Option<Stamp> {
        let generations = self.policy.levels.generations();
        let stamp =
            tracked.and_then(|stamp| generations.bump_key_if_current(self.key.hash(), &stamp));
        match stamp {
            Some(_) => self.policy.levels.remove(self.key),
            None => self.invalidate_locally(),
        }
        stamp
    }

    /// Keeps the written value in L1, only if no other write or invalidation came since the write
    /// began. Reads that began before it ended can no longer replace it.
    // P15 writer-ends-by-compare: without a lease, only the generation puts writers in order
    fn end_without_lease(
        &self,
        stamp: Stamp,
        value: &CachedValue,
        life: (Moment, Span, Kept),
        tags: PinnedTags,
    ) {
        let (policy, key) = (self.policy, self.key);
        match policy
            .levels
            .generations()
            .bump_key_if_current(key.hash(), &stamp)
        {
            Some(stamp) => {
                // What a read has stored since the write began is outdated now, also if nothing
                // takes its place.
                policy.levels.remove(key);
                policy.keep(key, value.value.as_ref(), life, stamp, tags, None);
            }
            None => {
                policy.reporter.refused(key);
                self.invalidate_locally();
            }
        }
    }

    fn invalidate_locally(&self) {
        self.policy.levels.invalidate_locally(self.key);
    }
}
