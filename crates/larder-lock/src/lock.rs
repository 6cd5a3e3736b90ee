use std::{sync::Arc, time::Duration};

use larder_core::{Key, PushListener, RemoteStore, StoreError};
use tokio::time::Instant;

use crate::{Lease, Leases, WriteBegun};

/// A lock across processes: at most one lease for each key.
///
/// It takes writers' leases. So a load of the lock's key waits for the lock, and taking the lock
/// deletes a value of that key. Give locks a prefix of their own, unless you want that.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use larder_core::{Clock, Key, MemoryServer};
/// use larder_lock::{LeaseLock, LockError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MemoryServer::new(Clock::system()); // or a `RedisStore`
/// let lock = LeaseLock::new(Arc::new(server.connect()), Duration::from_secs(10));
/// let key = Key::from_stored_name("jobs:nightly-report");
///
/// let lease = lock.acquire(&key, Duration::from_secs(5)).await?;
/// let refused = lock.acquire(&key, Duration::from_millis(1)).await;
/// assert!(matches!(refused, Err(LockError::Busy { .. })));
/// lease.release().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LeaseLock {
    leases: Leases,
    lease: Duration,
    // The store knows its listener weakly; this keeps it alive.
    _listener: Arc<dyn Listener>,
}

trait Listener: PushListener + std::fmt::Debug {}
impl<L: PushListener + std::fmt::Debug> Listener for L {}

/// The reason why a caller did not get a lock.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Other callers held the lock for the whole wait.
    #[error("the lock {key} was still held after {waited:?}")]
    Busy {
        /// The lock's key.
        key: String,
        /// The longest wait that the caller allowed.
        waited: Duration,
    },
    /// The store failed.
    #[error("the lock cannot be asked for")]
    Store(#[from] StoreError),
}

impl LeaseLock {
    /// Makes locks over this store, and listens to its pushes. A lease without renewal ends after
    /// `lease`, so another process can take over from a dead one after that time.
    pub fn new(remote: Arc<dyn RemoteStore>, lease: Duration) -> Self {
        let leases = Leases::new(remote);
        let listener = Arc::new(leases.waiters().clone());
        let weak = Arc::downgrade(&listener);
        leases.remote().subscribe(weak);
        Self {
            leases,
            lease,
            _listener: listener,
        }
    }

    /// Waits until the lock is free and takes it. The holder's release wakes the caller, or the end
    /// of the holder's lease.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer};
    /// # use larder_lock::LeaseLock;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryServer::new(Clock::system()).connect());
    /// # let lock = LeaseLock::new(store, Duration::from_secs(10));
    /// let key = Key::from_stored_name("jobs:nightly-report");
    /// let lease = lock.acquire(&key, Duration::from_secs(5)).await?;
    /// assert!(!lease.is_lost());
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    /// Dropping the future leaves the lock as it was.
    ///
    /// # Errors
    /// [`LockError::Busy`] after `max_wait`; [`LockError::Store`] if the store fails.
    pub async fn acquire(&self, key: &Key, max_wait: Duration) -> Result<Lease, LockError> {
        let start = Instant::now();
        loop {
            match self.leases.begin_write(key, self.lease).await? {
                WriteBegun::Leased(lease) => return Ok(lease),
                // The timeout is the caller's own limit.
                WriteBegun::Busy(waiter) => {
                    tokio::time::timeout(max_wait.saturating_sub(start.elapsed()), waiter.wait())
                        .await
                        .map_err(|_| LockError::Busy {
                            key: key.to_string(),
                            waited: max_wait,
                        })?;
                }
                WriteBegun::Withdrawn(reason) => return Err(reason.into()),
            }
        }
    }

    /// Takes the lock if it is free.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer};
    /// # use larder_lock::LeaseLock;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryServer::new(Clock::system()).connect());
    /// # let lock = LeaseLock::new(store, Duration::from_secs(10));
    /// let key = Key::from_stored_name("jobs:nightly-report");
    /// let lease = lock.try_acquire(&key).await?.expect("it is free");
    /// assert!(lock.try_acquire(&key).await?.is_none());
    /// lease.release().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`LockError::Store`] if the store fails.
    pub async fn try_acquire(&self, key: &Key) -> Result<Option<Lease>, LockError> {
        match self.leases.begin_write(key, self.lease).await? {
            WriteBegun::Leased(lease) => Ok(Some(lease)),
            WriteBegun::Busy(_) => Ok(None),
            WriteBegun::Withdrawn(reason) => Err(reason.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{Clock, MemoryServer};

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn released_lock_wakes_a_waiter_in_another_process() {
        let server = MemoryServer::new(Clock::manual().0);
        let one = LeaseLock::new(Arc::new(server.connect()), LEASE);
        let other = LeaseLock::new(Arc::new(server.connect()), LEASE);
        let key = Key::from_stored_name("jobs:1");
        let held = one.acquire(&key, LEASE).await.unwrap();
        let waiters = other.leases.waiters().clone();
        let waiting = tokio::spawn({
            let key = key.clone();
            async move {
                other
                    .acquire(&key, LEASE)
                    .await
                    .map(|lease| lease.is_lost())
            }
        });
        let start = Instant::now();
        while waiters.is_empty() {
            tokio::task::yield_now().await;
        }
        held.release().await.unwrap();
        assert!(!waiting.await.unwrap().unwrap());
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "woken, not timed out: {:?}",
            start.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_lease_is_released() {
        let server = MemoryServer::new(Clock::manual().0);
        let lock = LeaseLock::new(Arc::new(server.connect()), LEASE);
        let key = Key::from_stored_name("jobs:1");
        drop(lock.acquire(&key, LEASE).await.unwrap());
        lock.acquire(&key, Duration::from_secs(1)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn held_lock_is_renewed_and_a_waiter_gives_up() {
        let (clock, hand) = Clock::manual();
        let server = MemoryServer::new(clock);
        let lock = LeaseLock::new(Arc::new(server.connect()), LEASE);
        let key = Key::from_stored_name("jobs:1");
        let held = lock.acquire(&key, LEASE).await.unwrap();
        for _ in 0..10 {
            tokio::time::sleep(LEASE / 2).await;
            hand.advance(LEASE / 2);
        }
        assert!(
            lock.try_acquire(&key).await.unwrap().is_none(),
            "renewed past its first end"
        );
        assert!(!held.is_lost());
        let busy = lock
            .acquire(&key, Duration::from_secs(1))
            .await
            .unwrap_err();
        assert_eq!(busy.to_string(), "the lock jobs:1 was still held after 1s");
    }

    #[tokio::test(start_paused = true)]
    async fn expired_lease_is_lost_to_its_holder() {
        let (clock, hand) = Clock::manual();
        let server = MemoryServer::new(clock);
        let lock = LeaseLock::new(Arc::new(server.connect()), LEASE);
        let held = lock
            .acquire(&Key::from_stored_name("jobs:1"), LEASE)
            .await
            .unwrap();
        hand.advance(LEASE); // the process was paused for longer than its lease
        let other = lock
            .try_acquire(&Key::from_stored_name("jobs:1"))
            .await
            .unwrap();
        assert!(other.is_some());
        held.lost().await;
        assert!(
            !held.release().await.unwrap(),
            "it gives up what it does not hold"
        );
        assert!(
            lock.try_acquire(&Key::from_stored_name("jobs:1"))
                .await
                .unwrap()
                .is_none(),
            "the other's lease stands"
        );
    }
}
