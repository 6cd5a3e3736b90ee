//! Invalidations that outlive the process which owes them: a drain does what an outbox has
//! recorded, and then confirms it.

pub(crate) mod counts;

use std::{
    error::Error as _,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use larder_core::{
    Invalidated, Key, LaneIndex, LaneState, Outbox, OutboxEntry, OutboxError, StoreError,
};
use tokio::time::MissedTickBehavior;

use crate::{Error, observe::Count, process::Process};

/// The outbox that a larder drains by itself.
pub(crate) struct OutboxSchedule {
    pub(crate) outbox: Arc<dyn Outbox>,
    pub(crate) every: Duration,
}

/// 500: so many entries are read, invalidated and confirmed at once.
const BATCH: usize = 500;

/// The treatment of a key whose lane is down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenDown {
    /// The store remembers it, as with any invalidation, so that this process does not read what it
    /// has itself replaced.
    Remember,
    /// It is left to the outbox. A backlog that the store remembered too would take the room that
    /// writes need.
    Leave,
}

/// Drains an outbox now and from then on. It must not keep the larder alive.
pub(crate) async fn drain_for_ever(process: Weak<Process>, schedule: Arc<OutboxSchedule>) {
    let OutboxSchedule { outbox, every } = &*schedule;
    let Some(counts) = process.upgrade().map(|process| process.drains.clone()) else {
        return;
    };
    let mut due = tokio::time::interval((*every).max(Duration::from_millis(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        // An outbox that panics once must not end all drains.
        let drained = AssertUnwindSafe(drain(&process, &**outbox))
            .catch_unwind()
            .await;
        counts.drain_ended(match drained {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
            Err(_panic) => Some("it panicked".to_owned()),
        });
    }
}

/// Does what an outbox has recorded, batch by batch, and confirms what is done. It holds the larder
/// only while it invalidates, not while it waits for the outbox.
///
/// Each id is looked at once, so there is an end to it, and an entry that cannot be done holds up
/// nothing behind it.
pub(crate) async fn drain(process: &Weak<Process>, outbox: &dyn Outbox) -> Result<u64, Error> {
    let (mut confirmed, mut done, mut after) = (0, Ok(()), i64::MIN);
    if let Some(process) = process.upgrade() {
        process.resume().await;
    }
    while process
        .upgrade()
        .is_some_and(|process| is_reached(&process))
    {
        let entries = outbox.unconfirmed(after, BATCH).await.map_err(failed)?;
        let last = entries.iter().map(|entry| entry.id).max();
        let Some(last) = last.filter(|id| *id > after) else {
            break;
        };
        let is_last = entries.len() < BATCH;
        after = last;
        let Some(process) = process.upgrade() else {
            break;
        };
        let (some, all) =
            invalidate_and_confirm(process, outbox, &entries, WhenDown::Leave).await?;
        confirmed += some;
        done = done.and(all);
        if is_last {
            break;
        }
    }
    done.map(|()| confirmed)
}

/// Does what a write has just recorded, see
/// [`Larder::confirm_written`](crate::Larder::confirm_written).
pub(crate) async fn confirm_written(
    process: &Arc<Process>,
    outbox: &dyn Outbox,
    entries: &[OutboxEntry],
) -> Result<u64, Error> {
    let (mut confirmed, mut done) = (0, Ok(()));
    for batch in entries.chunks(BATCH) {
        let (some, all) =
            invalidate_and_confirm(process.clone(), outbox, batch, WhenDown::Remember).await?;
        confirmed += some;
        done = done.and(all);
    }
    done.map(|()| confirmed)
}

/// Invalidates the keys of these entries, and confirms those that are done. Returns how many these
/// are, and the first refusal of the others.
async fn invalidate_and_confirm(
    process: Arc<Process>,
    outbox: &dyn Outbox,
    entries: &[OutboxEntry],
    when_down: WhenDown,
) -> Result<(u64, Result<(), Error>), Error> {
    let name = entries
        .first()
        .map(|entry| entry.key.clone())
        .unwrap_or_default();
    let due: Vec<(i64, Key, bool)> = entries
        .iter()
        .map(|entry| {
            let key = Key::from_stored_name(&entry.key);
            let policy = process.policy_of(&key);
            if let Some(policy) = policy {
                policy.count(Count::Invalidation);
            }
            (
                entry.id,
                key,
                policy.is_none_or(|policy| policy.settings().levels().has_l2()),
            )
        })
        .collect();
    let (counts, lifecycle) = (process.drains.clone(), process.lifecycle.clone());
    // A task of its own, so that the replies are handled also when the caller is gone
    // (P9 reply-invalidates-again). It takes the larder along.
    let invalidated = lifecycle.spawn(async move {
        let each = due.iter().map(|(id, key, in_l2)| {
            let gone = invalidate(&process, key, *in_l2, when_down);
            async move { (*id, gone.await.map_err(|error| Error::store(key, error))) }
        });
        join_all(each).await
    })?;
    let (mut ids, mut done) = (Vec::new(), Ok(()));
    for (id, gone) in invalidated
        .await
        .map_err(|_| Error::Aborted { key: name })?
    {
        match gone {
            Ok(true) => ids.push(id),
            Ok(false) => {}
            Err(error) => done = done.and(Err(error)),
        }
    }
    if !ids.is_empty() {
        outbox.confirm(&ids).await.map_err(failed)?;
    }
    let confirmed = u64::try_from(ids.len()).unwrap_or(u64::MAX);
    counts.add_confirmed(confirmed);
    Ok((confirmed, done))
}

/// Invalidates a key in every level; `true` says that L2 has done it, and not only been told to.
async fn invalidate(
    process: &Process,
    key: &Key,
    in_l2: bool,
    when_down: WhenDown,
) -> Result<bool, StoreError> {
    // No store was ever asked for such a key, so nothing is to be done, also not by a later drain.
    if key.check().is_err() {
        return Ok(true);
    }
    let gone = match process.leases.as_ref().filter(|_| in_l2) {
        None => Ok(true),
        Some(leases) => {
            let remote = leases.remote();
            let is_down = || remote.lane_state(remote.lane(key.as_str())) == LaneState::Down;
            if when_down == WhenDown::Leave && is_down() {
                Ok(false)
            } else {
                match leases.invalidate(key).await {
                    Ok(done) => Ok(done == Invalidated::Done),
                    // What is there is not a value of ours.
                    Err(StoreError::WrongType { .. }) => Ok(true),
                    Err(error) => Err(error),
                }
            }
        }
    };
    process.invalidate_locally(key); // P9 reply-invalidates-again: whatever the reply was
    gone
}

/// Whether anything could be done in L2, or there is none.
fn is_reached(process: &Process) -> bool {
    process.leases.as_ref().is_none_or(|leases| {
        let remote = leases.remote();
        LaneIndex::all(remote.lanes()).any(|lane| remote.lane_state(lane) != LaneState::Down)
    })
}

fn failed(error: OutboxError) -> Error {
    Error::outbox(error)
}

impl fmt::Debug for OutboxSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxSchedule")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}
