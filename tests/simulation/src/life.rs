//! The life of a process, which may be killed.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The life of a process. Its tasks cannot be taken from the runtime, so each call that leaves a
/// dead process waits for ever.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(Arc<AtomicBool>);

impl Life {
    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on, if the process lives.
    pub(crate) async fn goes_on(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }
}
