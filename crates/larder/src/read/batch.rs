use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use larder_core::Key;
use larder_lock::Work;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{Error, SharedError, policy::ActivePolicy, value::CachedValue};

/// Loads of several keys that become one call of the loader.
///
/// Each key's own load, with its own lease, holds a [`BatchSlot`]. When all slots are decided, the
/// loader runs for those that want their key. The holder of a slot must be a task of its own:
/// otherwise the other slots would wait for a caller that may not be polled.
///
/// A load that has to wait, for another process or another load, skips its slot. If skipped slots
/// want their keys later, the loader runs once more for them.
pub(crate) struct BatchLoad {
    policy: Arc<ActivePolicy>,
    load: LoadParts,
    state: Mutex<State>,
}

/// Loads the parts with these numbers. A part that is not in the result is known to be absent.
pub(crate) type LoadParts = Box<
    dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<Vec<(usize, CachedValue)>, SharedError>>
        + Send
        + Sync,
>;

#[derive(Default)]
struct State {
    /// Of each slot whether it is decided.
    decided: Vec<bool>,
    undecided: usize,
    /// Whether the loader will soon run for slots that were skipped.
    is_due: bool,
    wanted: Vec<Wanted>,
}

struct Wanted {
    part: usize,
    key: Key,
    /// The key's own load, and what is around it.
    work: Option<Work>,
    served: oneshot::Sender<Result<CachedValue, Error>>,
}

/// 2 ms: the time that a batch waits for further skipped slots that want their key after all.
const SOON: Duration = Duration::from_millis(2);

/// One key's slot in a [`BatchLoad`], decided when it is dropped, at the latest.
pub(crate) struct BatchSlot {
    part: BatchPart,
    /// The number by which the loader knows the key.
    number: usize,
}

/// The slot as others see it who take part in the key's read.
#[derive(Clone)]
pub(crate) struct BatchPart {
    batch: Arc<BatchLoad>,
    slot: usize,
}

impl BatchLoad {
    pub(crate) fn new(policy: Arc<ActivePolicy>, load: LoadParts) -> Arc<Self> {
        Arc::new(Self {
            policy,
            load,
            state: Mutex::default(),
        })
    }

    /// Adds a slot. Nothing is loaded before it is decided.
    pub(crate) fn slot(self: &Arc<Self>, number: usize) -> BatchSlot {
        let mut state = self.state();
        state.undecided += 1;
        state.decided.push(false);
        let part = BatchPart {
            batch: self.clone(),
            slot: state.decided.len() - 1,
        };
        BatchSlot { part, number }
    }

    /// Runs the loader if no slot is undecided.
    fn dispatch_if_ready(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.undecided > 0 {
            return;
        }
        state.wanted.retain(|wanted| !wanted.served.is_closed()); // P19 loads-end-with-callers
        if state.wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        // A task of its own: it is for several callers, any of which may go. Without a runtime
        // nobody can be served.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.clone().run(wanted));
        }
    }

    /// Runs the loader for skipped slots that want their key after all. Slots that waited for one
    /// load want their keys at the same time.
    fn dispatch_soon(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().is_due, true) {
            return;
        }
        let due = Due(self.clone());
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        // A task of its own, as for the first ones.
        runtime.spawn(async move {
            // They come one by one, and nobody knows which is the last.
            tokio::time::sleep(SOON).await;
            drop(due);
        });
    }

    async fn run(self: Arc<Self>, mut wanted: Vec<Wanted>) {
        let works: Vec<Work> = wanted.iter().filter_map(|of| of.work.clone()).collect();
        // A part of a load that waits for it, and that has taken one of `max_loads`, takes none.
        let is_part = works.iter().any(|work| work.is_inside(self.policy.index));
        let permit = tokio::select! {
            biased; // in one order, so that a simulation can be repeated
            () = all_are_gone(&mut wanted), if !is_part => return,
            permit = self.policy.lock.permit(), if !is_part => permit,
            else => None,
        };
        if permit.is_none() && !is_part {
            return wanted.into_iter().for_each(|wanted| self.crowded(wanted));
        }
        wanted.retain(|wanted| !wanted.served.is_closed()); // P19 loads-end-with-callers
        let parts = wanted.iter().map(|wanted| wanted.part).collect();
        // A panic leaves nothing behind that anybody would see.
        let loading = AssertUnwindSafe(async {
            match Work::of_all(works) {
                Some(work) => work.run((self.load)(parts)).await,
                None => (self.load)(parts).await,
            }
        })
        .catch_unwind();
        let loaded = tokio::select! {
            biased; // in one order, so that a simulation can be repeated
            () = all_are_gone(&mut wanted) => return,
            loaded = loading => loaded,
        };
        let loaded = match loaded {
            Ok(Ok(found)) => Ok(found.into_iter().collect::<HashMap<_, _>>()),
            Ok(Err(error)) => Err(Some(error)),
            Err(_panic) => Err(None),
        };
        for Wanted {
            part, key, served, ..
        } in wanted
        {
            let outcome = match &loaded {
                Ok(found) => Ok(found
                    .get(&part)
                    .cloned()
                    .unwrap_or_else(|| CachedValue::plain(None))),
                Err(Some(error)) => Err(Error::load(&key, error.clone())),
                Err(None) => Err(Error::Panicked {
                    key: key.to_string(),
                }),
            };
            let _ = served.send(outcome); // it may be gone
        }
    }

    fn crowded(&self, Wanted { key, served, .. }: Wanted) {
        let waited = self.policy.settings().max_wait();
        // it may be gone
        let _ = served.send(Err(Error::TooManyLoads {
            key: key.to_string(),
            waited,
        }));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing done under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the loader run for skipped slots, also if the runtime ends in which that is due.
struct Due(Arc<BatchLoad>);

impl Drop for Due {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_due = false;
        self.0.dispatch_if_ready(state);
    }
}

/// Waits until no slot is waited for: each has its own time limit, and its own callers.
async fn all_are_gone(wanted: &mut [Wanted]) {
    join_all(wanted.iter_mut().map(|wanted| wanted.served.closed())).await;
}

impl BatchSlot {
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn part(&self) -> &BatchPart {
        &self.part
    }

    /// Waits for the key's part of the load. If the runtime ends in which that runs, it runs once
    /// more, in the runtime of this slot.
    pub(crate) async fn load(self, key: &Key) -> Result<CachedValue, Error> {
        for _ in 0..2 {
            if let Ok(outcome) = self.want(key).await {
                return outcome;
            }
        }
        let key = key.to_string();
        Err(Error::Aborted { key }) // the runtime is shutting down
    }

    fn want(&self, key: &Key) -> oneshot::Receiver<Result<CachedValue, Error>> {
        let (served, outcome) = oneshot::channel();
        let BatchPart { batch, slot } = &self.part;
        let is_decided = {
            let mut state = batch.state();
            state.wanted.push(Wanted {
                part: self.number,
                key: key.clone(),
                work: Work::current(&batch.policy.nesting),
                served,
            });
            state.decided[*slot]
        };
        match is_decided {
            true => batch.dispatch_soon(),
            false => self.part.skip(),
        }
        outcome
    }
}

impl BatchPart {
    /// Lets the other slots go on without this one.
    pub(crate) fn skip(&self) {
        let mut state = self.batch.state();
        if !std::mem::replace(&mut state.decided[self.slot], true) {
            state.undecided -= 1;
            self.batch.dispatch_if_ready(state);
        }
    }
}

impl Drop for BatchSlot {
    fn drop(&mut self) {
        self.part.skip();
    }
}
