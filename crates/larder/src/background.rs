//! The work of a larder that no caller waits for.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use tokio::{runtime::Handle, task::AbortHandle};

/// A task that goes on for as long as the larder lives. It runs in one runtime; when that ends, the
/// next call starts the task anew, in its own runtime.
#[derive(Default)]
pub(crate) struct Background {
    work: OnceLock<Work>,
    is_running: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

/// Begins the work, which has no end.
pub(crate) type Work = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Held by the task. The runtime drops it with the task.
struct InRuntime(Arc<Background>);

impl Background {
    /// Sets the work, once, and begins it.
    pub(crate) fn begin(self: &Arc<Self>, work: Work) {
        let _set_once = self.work.set(work);
        self.go_on();
    }

    /// Begins the work anew if its runtime has ended.
    pub(crate) fn go_on(self: &Arc<Self>) {
        // Acquire pairs with the Release in `InRuntime`.
        if self.is_running.load(Ordering::Acquire) {
            return;
        }
        let (Some(work), Ok(runtime)) = (self.work.get(), Handle::try_current()) else {
            return;
        };
        if self.is_running.swap(true, Ordering::AcqRel) {
            return;
        }
        let (in_runtime, work) = (InRuntime(self.clone()), work());
        let task = runtime.spawn(async move {
            let _in_runtime = in_runtime;
            work.await;
        });
        *self.task() = Some(task.abort_handle());
    }

    /// Ends the work.
    pub(crate) fn end(&self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        // Nothing done under this lock can panic half-way.
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InRuntime {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release); // pairs with the Acquire in `go_on`
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background")
            .field("is_running", &self.is_running)
            .finish_non_exhaustive()
    }
}
