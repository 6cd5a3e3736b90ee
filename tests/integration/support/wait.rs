use std::{task::Poll, time::Duration};

use larder_testkit::eventually;
use tokio::task::JoinHandle;

/// No condition is waited for longer than this.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) async fn holds(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually(BOUND, condition).await, "still not so: {what}");
}

/// The end of a call that is woken by an event, and not by the end of a lease or wait of a minute.
pub(crate) async fn woken<T>(call: impl Future<Output = T>) -> T {
    let in_time = tokio::time::timeout(Duration::from_secs(5), call).await;
    in_time.expect("it was not woken")
}

/// Starts a call, and returns when it has done all that it does before it waits for anything: it
/// has joined a flight. A busy machine may leave it nothing to wait for, so what must not end yet
/// is held by a gate, not by this.
pub(crate) fn start<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut call = Box::pin(call);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match call.as_mut().poll(&mut context) {
        Poll::Ready(ended) => tokio::spawn(std::future::ready(ended)),
        Poll::Pending => tokio::spawn(call),
    }
}
