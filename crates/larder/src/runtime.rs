use std::future::Future;

use larder_core::Key;
use tokio::task::JoinSet;

use crate::Error;

/// Checks that there is a runtime: without one, tokio panics where a task is spawned.
pub(crate) fn in_runtime() -> Result<(), Error> {
    tokio::runtime::Handle::try_current().map(drop).map_err(|_| Error::NoRuntime)
}

/// Runs a future in a task that ends with its caller: it makes progress also when nobody polls the
/// caller.
pub(crate) async fn in_task<R: Send + 'static>(
    key: Option<Key>,
    reading: impl Future<Output = R> + Send + 'static,
) -> Result<R, Error> {
    let mut task = JoinSet::new(); // aborts it when it is dropped
    task.spawn(reading);
    let aborted = || Error::Aborted { key: key.map(|key| key.to_string()).unwrap_or_default() };
    task.join_next().await.and_then(Result::ok).ok_or_else(aborted)
}
