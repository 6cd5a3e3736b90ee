//! The tokio runtime, and the tasks of a larder that must run to their ends.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use larder_core::Key;
use larder_lock::carry;
use tokio::{
    runtime::Handle,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use crate::{Error, background::Background};

/// Checks that there is a runtime: without one, tokio panics where a task is spawned.
pub(crate) fn in_runtime() -> Result<(), Error> {
    Handle::try_current()
        .map(drop)
        .map_err(|_| Error::NoRuntime)
}

/// Runs a future in a task that ends with its caller: it makes progress also when nobody polls the
/// caller.
pub(crate) async fn in_task<R: Send + 'static>(
    key: Option<Key>,
    reading: impl Future<Output = R> + Send + 'static,
) -> Result<R, Error> {
    let mut task = JoinSet::new(); // aborts it when it is dropped
    task.spawn(carry(reading));
    let aborted = || Error::Aborted {
        key: key.map(|key| key.to_string()).unwrap_or_default(),
    };
    task.join_next()
        .await
        .and_then(Result::ok)
        .ok_or_else(aborted)
}

/// Whether a larder is open, what it does in the background, and how many of its writes and
/// invalidations are running.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    pub(crate) background: Arc<Background>,
    is_closed: AtomicBool,
    running: AtomicUsize,
    one_ended: Notify,
}

impl Lifecycle {
    /// Checks that the larder is open, and that there is a runtime. The work in the background goes
    /// on there, if its own runtime has ended.
    pub(crate) fn check(&self) -> Result<(), Error> {
        // SeqCst: pairs with `close`, see `spawn`.
        if self.is_closed.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        in_runtime()?;
        self.background.go_on();
        Ok(())
    }

    /// Runs a write or an invalidation in a task of its own, so that it runs to its end also when
    /// its caller is dropped. `close` waits for it.
    pub(crate) fn spawn<R: Send + 'static>(
        self: &Arc<Self>,
        task: impl Future<Output = R> + Send + 'static,
    ) -> Result<JoinHandle<R>, Error> {
        // Counted before the check, in one order for all threads: so `close` either sees this task,
        // or this task sees that the larder is closed.
        let running = Running::new(self.clone());
        self.check()?;
        Ok(tokio::spawn(async move {
            let _running = running;
            task.await
        }))
    }

    /// Lets no call begin any more.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst); // pairs with `check`
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst) // pairs with `Running`
    }

    /// Waits until no write or invalidation is running.
    pub(crate) async fn idle(&self) {
        loop {
            let one_ended = self.one_ended.notified();
            tokio::pin!(one_ended);
            one_ended.as_mut().enable(); // before the look, so that an end in between is not missed
            if self.running() == 0 {
                return;
            }
            one_ended.await;
        }
    }
}

/// Counts as running until it is dropped, also by a runtime that shuts down.
struct Running(Arc<Lifecycle>);

impl Running {
    fn new(lifecycle: Arc<Lifecycle>) -> Self {
        lifecycle.running.fetch_add(1, Ordering::SeqCst); // pairs with `running`
        Self(lifecycle)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst); // pairs with `running`
        self.0.one_ended.notify_waiters();
    }
}
