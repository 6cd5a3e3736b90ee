use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{Key, RemoteStore, Token};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use crate::waiters::renewed;

/// The renewal of a held lease, in a task that ends with this.
#[derive(Debug)]
pub(crate) struct Renewal {
    task: AbortHandle,
    loss: Arc<Loss>,
}

#[derive(Debug, Default)]
struct Loss {
    lost: AtomicBool,
    told: Notify,
    /// Whether the lease was given up, so that there is nothing to lose.
    over: AtomicBool,
}

/// Held by the task: when that ends, also with its runtime, nobody renews the lease any more.
struct Renewing(Arc<Loss>);

impl Renewal {
    /// Renews a lease of this length, which was asked for at this moment.
    pub(crate) fn start(
        remote: Arc<dyn RemoteStore>,
        key: Key,
        token: Token,
        lease: Duration,
        asked: Instant,
    ) -> Self {
        let loss = Arc::new(Loss::default());
        let renewing = Renewing(loss.clone());
        // A task of its own, so that a loader that blocks its thread for long does not keep the
        // lease from renewal.
        let task = tokio::spawn(async move {
            let _renewing = renewing;
            renew(&*remote, &key, &token, lease, asked).await;
        });
        Self {
            task: task.abort_handle(),
            loss,
        }
    }

    /// Tells whether the lease is known to be lost.
    pub(crate) fn is_lost(&self) -> bool {
        self.loss.lost.load(Ordering::Acquire)
    }

    /// Waits until the lease is known to be lost.
    pub(crate) async fn lost(&self) {
        loop {
            let told = self.loss.told.notified();
            if self.is_lost() {
                return;
            }
            told.await;
        }
    }

    /// Ends the renewal of a lease that is over.
    pub(crate) fn end(&self) {
        self.loss.over.store(true, Ordering::Release); // pairs with the load in `Renewing`
        self.task.abort();
    }
}

impl Drop for Renewal {
    fn drop(&mut self) {
        self.end();
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        if !self.0.over.load(Ordering::Acquire) {
            self.0.lost.store(true, Ordering::Release); // pairs with the load in `is_lost`
            self.0.told.notify_waiters();
        }
    }
}

/// Extends the lease every third of its life, counted from before it was asked for, until it is
/// lost.
async fn renew(
    remote: &dyn RemoteStore,
    key: &Key,
    token: &Token,
    lease: Duration,
    mut asked: Instant,
) {
    let mut life = lease;
    loop {
        tokio::time::sleep(lease / 3).await;
        let asking = Instant::now();
        let renewal = remote.renew(key.as_str(), token, renewed(lease));
        // The limit is the lease's end: an answer that comes later changes nothing.
        match tokio::time::timeout(life.saturating_sub(asked.elapsed()), renewal).await {
            Ok(Ok(true)) => (asked, life) = (asking, renewed(lease)),
            // The store may be back before the lease has run out.
            Ok(Err(_)) if asked.elapsed() < life => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Clock, MemoryServer, Replacing};
    use tokio::runtime::{Builder, Runtime};

    use crate::{Claimed, Lease, Leases};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn leases() -> Leases {
        Leases::new(Arc::new(MemoryServer::new(Clock::system()).connect()))
    }

    async fn claim(leases: &Leases) -> Lease {
        let key = Key::from_stored_name("jobs:1");
        match leases.claim(&key, MINUTE, Replacing::Nothing).await {
            Ok(Claimed::Leased(lease)) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// P32 runtime-end-is-loss: nobody renews it any more.
    #[test]
    fn lease_is_lost_with_the_runtime_that_renews_it() {
        let (first, leases) = (runtime(), leases());
        let lease = first.block_on(claim(&leases));
        assert!(!lease.is_lost());
        drop(first);
        assert!(lease.is_lost());
        runtime().block_on(lease.lost());
    }

    #[test]
    fn lease_that_was_given_up_cannot_be_lost() {
        let (first, leases) = (runtime(), leases());
        let mut lease = first.block_on(claim(&leases));
        let committed = lease.commit(b"done", MINUTE, Replacing::Nothing);
        assert!(first.block_on(committed).unwrap().is_done());
        drop(first);
        assert!(!lease.is_lost());
    }

    /// P19 loads-end-with-callers: also with its runtime.
    #[test]
    fn lease_of_a_load_that_its_runtime_cuts_off_is_released_by_the_next_claim() {
        let (first, leases) = (runtime(), leases());
        first.block_on(async {
            let lease = claim(&leases).await;
            tokio::spawn(async move {
                let _lease = lease;
                std::future::pending::<()>().await;
            });
        });
        drop(first);
        drop(runtime().block_on(claim(&leases))); // outside of any runtime
        runtime().block_on(claim(&leases));
    }
}
