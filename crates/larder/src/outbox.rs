//! Invalidations that outlive the process which owes them: what an outbox has recorded is done, and then confirmed.

use std::{
    error::Error as _,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use larder_core::{Invalidated, Key, LaneState, Outbox, OutboxEntry, OutboxError, StoreError};
use tokio::{task::AbortHandle, time::MissedTickBehavior};
use tracing::{info, warn};

use crate::{
    Error, Stats,
    coherence::invalidate_locally,
    larder::{RowHead, in_runtime},
    row::Shared,
    stats::Count,
};

/// The outbox that a larder replays by itself.
pub(crate) struct OutboxSchedule {
    pub(crate) intents: Arc<dyn Outbox>,
    pub(crate) every: Duration,
}

/// What is done for outboxes: the numbers, and the task, which ends with the larder.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    pub(crate) numbers: Arc<Numbers>,
    task: OnceLock<AbortHandle>,
}

/// Counts; Relaxed throughout, because they order nothing.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    confirmed: AtomicU64,
    errors: AtomicU64,
    /// Whether the last replay failed, so that only the first of a policy of failures is logged.
    failing: AtomicBool,
}

/// How many intents are read, invalidated and confirmed at once.
const BATCH: usize = 500;

/// What becomes of a key whose lane is down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenDown {
    /// It is remembered, as with any invalidation, so that this process does not read what it has itself replaced.
    Remember,
    /// It is left to the outbox. A backlog that was remembered too would take the room that writes need (P11 unsent-goes-first).
    Leave,
}

impl Replays {
    /// Replays an outbox now and from then on, for as long as the larder or one of its caches lives.
    pub(crate) fn start(shared: &Arc<Shared>, rows: Vec<RowHead>, outbox: OutboxSchedule) {
        // A task of its own, because what a dead process owes has no caller. It must not keep the larder alive.
        let task = tokio::spawn(keep_replaying(Arc::downgrade(shared), rows, outbox));
        // Started once only, so there is none to be replaced.
        let _ = shared.replays.task.set(task.abort_handle());
    }
}

impl Drop for Replays {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Numbers {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            outbox_drained: self.confirmed.load(Ordering::Relaxed),
            outbox_errors: self.errors.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }

    fn note(&self, failed: Option<String>) {
        match failed {
            None if self.failing.swap(false, Ordering::Relaxed) => info!("the outbox is replayed again"),
            None => {}
            Some(reason) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    warn!(reason, "the outbox cannot be replayed; until it can, this is only counted");
                }
            }
        }
    }
}

async fn keep_replaying(
    shared: Weak<Shared>,
    rows: Vec<RowHead>,
    OutboxSchedule { intents, every }: OutboxSchedule,
) {
    let Some(numbers) = shared.upgrade().map(|shared| shared.replays.numbers.clone()) else { return };
    let mut due = tokio::time::interval(every.max(Duration::from_millis(1)));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        // An outbox that panics once must not end all replays.
        let replayed = AssertUnwindSafe(replay(&shared, &rows, &*intents)).catch_unwind().await;
        numbers.note(match replayed {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
            Err(_panic) => Some("it panicked".to_owned()),
        });
    }
}

/// Does what an outbox has recorded, batch by batch, and confirms what is done. It holds the larder only while it
/// invalidates, not while it waits for the outbox.
///
/// Each id is looked at once, so there is an end to it, and what cannot be done holds up nothing behind it.
pub(crate) async fn replay(
    shared: &Weak<Shared>,
    rows: &[RowHead],
    outbox: &dyn Outbox,
) -> Result<u64, Error> {
    let (mut confirmed, mut done, mut after) = (0, Ok(()), i64::MIN);
    while shared.upgrade().is_some_and(|shared| shared.is_reached()) {
        let intents = outbox.unconfirmed(after, BATCH).await.map_err(failed)?;
        let Some(last) = intents.iter().map(|intent| intent.id).max().filter(|id| *id > after) else { break };
        let is_last = intents.len() < BATCH;
        after = last;
        let Some(larder) = shared.upgrade() else { break };
        let (some, all) = settle(larder, rows, outbox, &intents, WhenDown::Leave).await?;
        confirmed += some;
        done = done.and(all);
        if is_last {
            break;
        }
    }
    done.map(|()| confirmed)
}

/// Does what a write has just recorded, see [`Larder::confirm_written`](crate::Larder::confirm_written).
pub(crate) async fn settle_recorded(
    shared: &Arc<Shared>,
    rows: &[RowHead],
    outbox: &dyn Outbox,
    intents: &[OutboxEntry],
) -> Result<u64, Error> {
    let (mut confirmed, mut done) = (0, Ok(()));
    for batch in intents.chunks(BATCH) {
        let (some, all) = settle(shared.clone(), rows, outbox, batch, WhenDown::Remember).await?;
        confirmed += some;
        done = done.and(all);
    }
    done.map(|()| confirmed)
}

/// Invalidates what these intents name and confirms those that are done. Returns how many these are, and the first
/// refusal of the others.
async fn settle(
    shared: Arc<Shared>,
    rows: &[RowHead],
    outbox: &dyn Outbox,
    intents: &[OutboxEntry],
    when_down: WhenDown,
) -> Result<(u64, Result<(), Error>), Error> {
    in_runtime()?;
    let name = intents.first().map(|intent| intent.key.clone()).unwrap_or_default();
    let due: Vec<(i64, Key, bool)> = intents
        .iter()
        .map(|intent| {
            let key = Key::from_stored_name(&*intent.key);
            let row = RowHead::of(rows, &key);
            if let Some(row) = row {
                row.counters.add(Count::Invalidation);
            }
            (intent.id, key, row.is_none_or(|row| row.in_l2))
        })
        .collect();
    let numbers = shared.replays.numbers.clone();
    // A task of its own, so that the replies are handled also when the caller is gone (P9 reply-invalidates-again). It takes the larder along.
    let invalidated = tokio::spawn(async move {
        let each = due.iter().map(|(id, key, in_l2)| {
            let gone = invalidate(&shared, key, *in_l2, when_down);
            async move { (*id, gone.await.map_err(|error| Error::store(key, error))) }
        });
        join_all(each).await
    });
    let (mut ids, mut done) = (Vec::new(), Ok(()));
    for (id, gone) in invalidated.await.map_err(|_| Error::Aborted { key: name })? {
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
    numbers.confirmed.fetch_add(confirmed, Ordering::Relaxed);
    Ok((confirmed, done))
}

/// Invalidates a key in every level; `true` says that L2 has done it, and not only been told to.
async fn invalidate(
    shared: &Shared,
    key: &Key,
    in_l2: bool,
    when_down: WhenDown,
) -> Result<bool, StoreError> {
    // No store was ever asked for such a key, so nothing is to be done, also not by a later replay.
    if key.check().is_err() {
        return Ok(true);
    }
    let gone = match shared.leases.as_ref().filter(|_| in_l2) {
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
    invalidate_locally(&shared.generations, &shared.l1, key.as_ref()); // P9 reply-invalidates-again: after the reply, whatever it was
    gone
}

impl Shared {
    /// Whether anything could be done in L2, or there is none.
    fn is_reached(&self) -> bool {
        self.leases.as_ref().is_none_or(|leases| {
            let remote = leases.remote();
            (0..remote.lanes()).any(|lane| remote.lane_state(lane) != LaneState::Down)
        })
    }
}

impl RowHead {
    /// The policy of a key: by the prefix that it was formatted with, or else by its text.
    pub(crate) fn of<'a>(rows: &'a [Self], key: &Key) -> Option<&'a Self> {
        if !key.prefix().is_empty() {
            return rows.iter().find(|row| row.prefix == key.prefix());
        }
        let names =
            |row: &&Self| key.as_str().strip_prefix(&*row.prefix).is_some_and(|rest| rest.starts_with(':'));
        rows.iter().find(names)
    }
}

fn failed(error: OutboxError) -> Error {
    Error::outbox(error)
}

impl fmt::Debug for OutboxSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxSchedule").field("every", &self.every).finish_non_exhaustive()
    }
}
