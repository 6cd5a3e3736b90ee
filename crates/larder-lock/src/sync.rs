use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex. Nothing done under this crate's locks can panic half-way, so a poisoned lock
/// still guards a whole state.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
