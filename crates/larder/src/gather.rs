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
use tokio::{runtime::Handle, sync::oneshot, task::JoinSet};

use crate::{
    Error, SharedError,
    encoding::Value,
    row::{Found, Outcome, RowState},
};

/// Loads of several keys that become one: each key's own load, with its own lease, takes a [`Place`], and the loader runs
/// when no place is undecided any more, for those that want it. Whoever holds a place must be a task that runs, so that the
/// others do not wait for one whose caller is not polled.
///
/// Nobody waits in a place for another process or another load: such a place is passed, and what those want later is
/// one more load.
pub(crate) struct Gather<T> {
    row: Arc<RowState<T>>,
    load: LoadParts<T>,
    state: Mutex<State<T>>,
}

/// Loads the parts with these numbers. A part that is not in the result is known to be absent.
pub(crate) type LoadParts<T> =
    Box<dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<Vec<(usize, Found<T>)>, SharedError>> + Send + Sync>;

struct State<T> {
    undecided: usize,
    /// Whether the loader will soon run for those that were passed.
    is_due: bool,
    wanted: Vec<Wanted<T>>,
}

struct Wanted<T> {
    part: usize,
    key: Key,
    served: oneshot::Sender<Outcome<T>>,
}

/// How long those that were passed are waited for.
const SOON: Duration = Duration::from_millis(2);

/// One key's part in a [`Gather`]. It is decided when it is dropped, at the latest.
pub(crate) struct Place<T: Value> {
    gather: Arc<Gather<T>>,
    part: usize,
    is_decided: bool,
}

impl<T: Value> Gather<T> {
    pub(crate) fn new(row: Arc<RowState<T>>, load: LoadParts<T>) -> Arc<Self> {
        Arc::new(Self {
            row,
            load,
            state: Mutex::new(State { undecided: 0, is_due: false, wanted: Vec::new() }),
        })
    }

    /// Adds a place. Nothing is loaded before it is decided.
    pub(crate) fn place(self: &Arc<Self>, part: usize) -> Place<T> {
        self.state().undecided += 1;
        Place { gather: self.clone(), part, is_decided: false }
    }

    /// Runs the loader if nobody is undecided.
    fn decide(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        if state.undecided > 0 {
            return;
        }
        state.wanted.retain(|wanted| !wanted.served.is_closed()); // P19 loads-end-with-callers
        if state.wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        // A task of its own: it is for several, any of which may go. Without a runtime nobody can be served.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.clone().run(wanted));
        }
    }

    /// Runs the loader for what was passed and is wanted after all: who waited for the same load comes at the same time.
    fn decide_soon(self: &Arc<Self>) {
        if std::mem::replace(&mut self.state().is_due, true) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let this = self.clone();
        // A task of its own, as for the first ones.
        runtime.spawn(async move {
            tokio::time::sleep(SOON).await; // they come one by one, and nobody knows which is the last
            let mut state = this.state();
            state.is_due = false;
            this.decide(state);
        });
    }

    async fn run(self: Arc<Self>, mut wanted: Vec<Wanted<T>>) {
        let slot = tokio::select! {
            slot = self.row.lock.slot() => slot,
            () = all_are_gone(&mut wanted) => return,
        };
        let Some(_slot) = slot else { return wanted.into_iter().for_each(|wanted| self.crowded(wanted)) };
        wanted.retain(|wanted| !wanted.served.is_closed()); // P19 loads-end-with-callers
        let parts = wanted.iter().map(|wanted| wanted.part).collect();
        // A panic leaves nothing behind that anybody would see.
        let loading = AssertUnwindSafe(async { (self.load)(parts).await }).catch_unwind();
        let loaded = tokio::select! {
            loaded = loading => loaded,
            () = all_are_gone(&mut wanted) => return,
        };
        let loaded = match loaded {
            Ok(Ok(found)) => Ok(found.into_iter().collect::<HashMap<_, _>>()),
            Ok(Err(error)) => Err(Some(error)),
            Err(_panic) => Err(None),
        };
        for Wanted { part, key, served } in wanted {
            let outcome = match &loaded {
                Ok(found) => Ok(found.get(&part).cloned().unwrap_or_else(|| Found::plain(None))),
                Err(Some(error)) => Err(Error::load(&key, error.clone())),
                Err(None) => Err(Error::Panicked { key: key.to_string() }),
            };
            let _ = served.send(outcome); // it may be gone
        }
    }

    fn crowded(&self, Wanted { key, served, .. }: Wanted<T>) {
        let waited = self.row.policy.max_wait();
        let _ = served.send(Err(Error::TooManyLoads { key: key.to_string(), waited })); // it may be gone
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // Nothing done under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what holds places in a task, which ends with its caller.
pub(crate) async fn in_task<R: Send + 'static>(
    key: Option<Key>,
    reading: impl Future<Output = R> + Send + 'static,
) -> Result<R, Error> {
    let mut task = JoinSet::new(); // aborts it when it is dropped
    task.spawn(reading);
    let aborted = || Error::Aborted { key: key.map(|key| key.to_string()).unwrap_or_default() };
    task.join_next().await.and_then(Result::ok).ok_or_else(aborted)
}

/// Waits until nobody wants any of it: each has its own time limit, and its own callers.
async fn all_are_gone<T>(wanted: &mut [Wanted<T>]) {
    join_all(wanted.iter_mut().map(|wanted| wanted.served.closed())).await;
}

impl<T: Value> Place<T> {
    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// Has the others not wait for this one.
    pub(crate) fn pass(&mut self) {
        if !std::mem::replace(&mut self.is_decided, true) {
            let mut state = self.gather.state();
            state.undecided -= 1;
            self.gather.decide(state);
        }
    }

    /// Wants the key.
    pub(crate) fn load(mut self, key: &Key) -> BoxFuture<'static, Outcome<T>> {
        let (served, outcome) = oneshot::channel();
        self.gather.state().wanted.push(Wanted { part: self.part, key: key.clone(), served });
        match self.is_decided {
            true => self.gather.decide_soon(),
            false => self.pass(),
        }
        let aborted = Error::Aborted { key: key.to_string() };
        Box::pin(async { outcome.await.unwrap_or(Err(aborted)) }) // the runtime is shutting down
    }
}

impl<T: Value> Drop for Place<T> {
    fn drop(&mut self) {
        self.pass();
    }
}
