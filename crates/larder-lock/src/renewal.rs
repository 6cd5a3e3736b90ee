use std::{sync::Arc, time::Duration};

use larder_core::{Key, RemoteStore, Token};
use tokio::{task::AbortHandle, time::Instant};

use crate::waiters::renewed;

/// A renewal ends with its lease.
#[derive(Debug)]
pub(crate) struct Renewal(pub(crate) AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Extends the lease every third of its life, counted from before it was asked for, and tells when
/// it is lost.
pub(crate) async fn renew(
    remote: Arc<dyn RemoteStore>,
    key: Key,
    token: Token,
    lease: Duration,
    mut asked: Instant,
    lost: impl FnOnce() + Send,
) {
    let mut life = lease;
    loop {
        tokio::time::sleep(lease / 3).await;
        let asking = Instant::now();
        let renewal = remote.renew(key.as_str(), &token, renewed(lease));
        // The limit is the lease's end: an answer that comes later changes nothing.
        match tokio::time::timeout(life.saturating_sub(asked.elapsed()), renewal).await {
            Ok(Ok(true)) => (asked, life) = (asking, renewed(lease)),
            // The store may be back before the lease has run out.
            Ok(Err(_)) if asked.elapsed() < life => {}
            _ => return lost(),
        }
    }
}
