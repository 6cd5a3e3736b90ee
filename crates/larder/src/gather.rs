use std::{
    collections::HashMap,
    future::pending,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use larder_core::Key;
use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    Error,
    encoding::Value,
    row::{Found, Outcome, RowState},
};

/// Loads of several keys that become one: each key's own load, with its own lease, takes a [`Place`], and the loader runs
/// when no place is undecided any more, for those that want it.
///
/// Nobody waits in a place for another process or another load: such a place is passed, and what it wants later is loaded
/// by itself.
pub(crate) struct Gather<T> {
    row: Arc<RowState<T>>,
    load: LoadParts<T>,
    state: Mutex<State<T>>,
}

/// Loads the parts with these numbers. A part that is not in the result is known to be absent.
pub(crate) type LoadParts<T> =
    Box<dyn Fn(Vec<usize>) -> BoxFuture<'static, Result<Vec<(usize, Found<T>)>, Error>> + Send + Sync>;

struct State<T> {
    undecided: usize,
    wanted: Vec<Wanted<T>>,
}

struct Wanted<T> {
    part: usize,
    key: Key,
    served: oneshot::Sender<Outcome<T>>,
}

/// One key's part in a [`Gather`]. It is decided when it is dropped, at the latest.
pub(crate) struct Place<T: Value> {
    gather: Arc<Gather<T>>,
    part: usize,
    is_decided: bool,
}

impl<T: Value> Gather<T> {
    pub(crate) fn new(row: Arc<RowState<T>>, load: LoadParts<T>) -> Arc<Self> {
        Arc::new(Self { row, load, state: Mutex::new(State { undecided: 0, wanted: Vec::new() }) })
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
        state.wanted.retain(|wanted| !wanted.served.is_closed()); // P19
        if state.wanted.is_empty() {
            return;
        }
        let wanted = std::mem::take(&mut state.wanted);
        drop(state);
        // A task of its own: it is for several, any of which may go. Without a runtime nobody waits any more.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.clone().run(wanted));
        }
    }

    async fn run(self: Arc<Self>, mut wanted: Vec<Wanted<T>>) {
        let parts = wanted.iter().map(|wanted| wanted.part).collect();
        let loading = async {
            let _slot = self.row.lock.slot().await?;
            // A panic leaves nothing behind that anybody would see.
            Some(AssertUnwindSafe(async { (self.load)(parts).await }).catch_unwind().await)
        };
        let loaded = tokio::select! {
            loaded = loading => loaded,
            // Each has its own time limit, and its own callers.
            _ = join_all(wanted.iter_mut().map(|wanted| wanted.served.closed())) => return,
        };
        let loaded = match loaded {
            Some(Ok(Ok(found))) => Ok(found.into_iter().collect::<HashMap<_, _>>()),
            Some(Ok(Err(error))) => Err(Some(error)),
            Some(Err(_panic)) => Err(None),
            None => return wanted.into_iter().for_each(|wanted| self.crowded(wanted)),
        };
        for Wanted { part, key, served } in wanted {
            let outcome = match &loaded {
                Ok(found) => Ok(found.get(&part).cloned().unwrap_or_else(|| Found::plain(None))),
                Err(Some(error)) => Err(error.clone()),
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
            true => self.gather.decide(self.gather.state()),
            false => self.pass(),
        }
        Box::pin(async {
            match outcome.await {
                Ok(outcome) => outcome,
                Err(_closed) => pending().await, // the runtime is shutting down
            }
        })
    }
}

impl<T: Value> Drop for Place<T> {
    fn drop(&mut self) {
        self.pass();
    }
}
