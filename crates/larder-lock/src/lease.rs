use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Claim, Committed, Digest, Invalidated, Key, LONGEST_LEASE, RemoteStore, Replacing, StoreError,
    Stored, Token, Track, WriteClaim,
};
use tokio::{sync::Notify, task::AbortHandle, time::Instant};

use crate::waiters::{Waiter, Waiters, renewed};

/// The leases of a remote store, as one process uses them: they renew themselves, and waiting
/// callers are woken.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use larder_core::{Clock, Key, MemoryServer, Replacing};
/// use larder_lock::{Claimed, Leases};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MemoryServer::new(Clock::system()); // or a `RedisStore`
/// let leases = Leases::new(Arc::new(server.connect()));
/// let (key, minute) = (Key::from_stored_name("report:7"), Duration::from_secs(60));
///
/// // The process that gets the lease fills the key; the others find it busy, and then its value.
/// let claimed = leases.claim(&key, minute, Replacing::Nothing).await?;
/// let Claimed::Leased(mut lease) = claimed else { panic!("{claimed:?}") };
/// let claimed = leases.claim(&key, minute, Replacing::Nothing).await?;
/// assert!(matches!(claimed, Claimed::Busy(_)));
///
/// lease.commit(b"ready", minute, Replacing::Nothing).await?;
/// let claimed = leases.claim(&key, minute, Replacing::Nothing).await?;
/// assert!(matches!(claimed, Claimed::Hit(stored) if stored.value == "ready"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Leases {
    remote: Arc<dyn RemoteStore>,
    waiters: Waiters,
    pub(crate) track: Track,
}

/// A held lease, renewed in the background until it is given up or lost.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use larder_core::{Clock, Key, MemoryServer, Replacing};
/// # use larder_lock::{Claimed, Leases, WriteBegun};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (server, minute) = (MemoryServer::new(Clock::system()), Duration::from_secs(60));
/// # let leases = Leases::new(Arc::new(server.connect()));
/// # let key = Key::from_stored_name("report:7");
/// # let claimed = leases.claim(&key, minute, Replacing::Nothing).await?;
/// # let Claimed::Leased(mut lease) = claimed else { unreachable!("it is free") };
/// leases.invalidate(&key).await?; // meanwhile
/// let committed = lease.commit(b"too old", minute, Replacing::Nothing).await?;
/// assert!(!committed.is_done());
/// assert_eq!(server.read("report:7"), None);
/// # Ok(()) }
/// ```
///
/// # Cancellation
/// A lease that is dropped is released in the background. If the process dies, its time runs out.
#[derive(Debug)]
pub struct Lease {
    held: ReleaseOnDrop,
    renewal: Renewal,
    loss: Arc<Loss>,
}

/// The answer to [`Leases::claim`].
#[derive(Debug)]
pub enum Claimed {
    /// There is a value.
    Hit(Stored),
    /// The caller should load and commit.
    Leased(Lease),
    /// Another process or caller loads or writes: wait, then start anew.
    Busy(Waiter),
}

/// The answer to [`Leases::begin_write`].
#[derive(Debug)]
pub enum WriteBegun {
    /// The caller may write.
    Leased(Lease),
    /// Another writer is at work: wait, then start anew.
    Busy(Waiter),
    /// The store gave no lease, for this reason. The key is invalidated instead, or will be before
    /// anything is read through its lane again.
    Withdrawn(StoreError),
}

#[derive(Debug, Default)]
struct Loss {
    lost: AtomicBool,
    told: Notify,
}

impl Leases {
    /// Uses the leases of this store. Pushes must reach [`waiters`](Self::waiters), see
    /// [`larder_core::Lanes::subscribe`].
    pub fn new(remote: Arc<dyn RemoteStore>) -> Self {
        Self {
            remote,
            waiters: Waiters::default(),
            track: Track::Value,
        }
    }

    /// The store.
    pub fn remote(&self) -> &Arc<dyn RemoteStore> {
        &self.remote
    }

    /// The waiters of this process.
    pub fn waiters(&self) -> &Waiters {
        &self.waiters
    }

    /// Asks for the right to fill a key, see [`LeaseStore::claim`](larder_core::LeaseStore::claim).
    /// A lease of more than [`LONGEST_LEASE`] lives for that.
    ///
    /// # Cancellation
    /// If the future is dropped, a lease that it may have got is released in the background.
    ///
    /// # Errors
    /// The store's own error; no lease is kept then.
    pub async fn claim(
        &self,
        key: &Key,
        lease: Duration,
        replacing: Replacing<'_>,
    ) -> Result<Claimed, StoreError> {
        let lease = lease.min(LONGEST_LEASE);
        // P8 register-then-claim: register, then claim
        let waiter = self.waiters.register(key.hash());
        let (held, asked) = (ReleaseOnDrop::new(self, key), Instant::now());
        let claim = self
            .remote
            .claim(key.as_str(), &held.token, lease, replacing, self.track)
            .await?;
        Ok(match claim {
            Claim::Leased => Claimed::Leased(Lease::new(held, lease, asked)),
            Claim::Hit(stored) => {
                held.disarm();
                Claimed::Hit(stored)
            }
            Claim::Busy(rest) => {
                held.disarm();
                Claimed::Busy(waiter.at_most(rest))
            }
        })
    }

    /// Asks for the right to write behind a key, see
    /// [`LeaseStore::begin_write`](larder_core::LeaseStore::begin_write). A lease of more than
    /// [`LONGEST_LEASE`] lives for that.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer, Replacing};
    /// # use larder_lock::{Claimed, Leases, WriteBegun};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (server, minute) = (MemoryServer::new(Clock::system()), Duration::from_secs(60));
    /// # let leases = Leases::new(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("report:7");
    /// let begun = leases.begin_write(&key, minute).await?;
    /// let WriteBegun::Leased(lease) = begun else { panic!("{begun:?}") };
    /// // The database is written here, by one writer at a time.
    /// lease.invalidate().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    /// If the future is dropped, a lease that it may have got is released in the background.
    ///
    /// # Errors
    /// The store's own error, if the key could not even be invalidated; no lease is kept then.
    pub async fn begin_write(&self, key: &Key, lease: Duration) -> Result<WriteBegun, StoreError> {
        let lease = lease.min(LONGEST_LEASE);
        // P8 register-then-claim: register, then claim
        let waiter = self.waiters.register(key.hash());
        let (held, asked) = (ReleaseOnDrop::new(self, key), Instant::now());
        // No waiter is woken: a reader's lease became a writer's, and nobody else can get it now.
        match self
            .remote
            .begin_write(key.as_str(), &held.token, lease)
            .await
        {
            Ok(WriteClaim::Leased) => Ok(WriteBegun::Leased(Lease::new(held, lease, asked))),
            Ok(WriteClaim::Busy(rest)) => {
                held.disarm();
                Ok(WriteBegun::Busy(waiter.at_most(rest)))
            }
            Err(reason) => {
                // P11 unsent-goes-first: the script may have run, so the lease that it may have
                // taken ends with this.
                self.remote.invalidate(key, Some(&held.token)).await?;
                held.disarm();
                self.waiters.wake(key.hash()); // P7 wake-own-waiters
                Ok(WriteBegun::Withdrawn(reason))
            }
        }
    }

    /// Invalidates a key, see [`ValueStore::invalidate`](larder_core::ValueStore::invalidate).
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer, Replacing};
    /// # use larder_lock::{Claimed, Leases, WriteBegun};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (server, minute) = (MemoryServer::new(Clock::system()), Duration::from_secs(60));
    /// # let leases = Leases::new(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("report:7");
    /// server.write("report:7", "old", None);
    /// leases.invalidate(&key).await?;
    /// assert_eq!(server.read("report:7"), None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The store's own error.
    pub async fn invalidate(&self, key: &Key) -> Result<Invalidated, StoreError> {
        let done = self.remote.invalidate(key, None).await;
        // P7 wake-own-waiters: no push comes for what this process did itself
        self.waiters.wake(key.hash());
        done
    }

    /// Invalidates every key that begins with `prefix`, see
    /// [`ValueStore::clear`](larder_core::ValueStore::clear).
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer, Replacing};
    /// # use larder_lock::{Claimed, Leases, WriteBegun};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (server, minute) = (MemoryServer::new(Clock::system()), Duration::from_secs(60));
    /// # let leases = Leases::new(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("report:7");
    /// server.write("report:7", "old", None);
    /// leases.clear("report:").await?;
    /// assert_eq!(server.read("report:7"), None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The store's own error; a part may have been done.
    pub async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        let done = self.remote.clear(prefix).await;
        self.waiters.wake_all(); // P7 wake-own-waiters
        done
    }
}

impl Lease {
    fn new(held: ReleaseOnDrop, lease: Duration, asked: Instant) -> Self {
        let loss = Arc::new(Loss::default());
        // A task of its own, so that a loader that blocks its thread for long does not keep the
        // lease from renewal.
        let renewal = tokio::spawn(renew(
            held.leases.clone(),
            held.key.clone(),
            held.token.clone(),
            lease,
            asked,
            {
                let loss = loss.clone();
                move || loss.happened()
            },
        ));
        Self {
            held,
            renewal: Renewal(renewal.abort_handle()),
            loss,
        }
    }

    /// Stores the value if the lease is still good, see
    /// [`LeaseStore::commit`](larder_core::LeaseStore::commit), and gives the lease up.
    ///
    /// # Errors
    /// The store's own error. The value may be stored all the same;
    /// [`invalidate`](Self::invalidate) removes it.
    pub async fn commit(
        &mut self,
        value: &[u8],
        ttl: Duration,
        replacing: Replacing<'_>,
    ) -> Result<Committed, StoreError> {
        let ReleaseOnDrop {
            leases, key, token, ..
        } = &self.held;
        let committed = leases
            .remote
            .commit(key.as_str(), token, value, ttl, replacing, leases.track)
            .await?;
        self.ended();
        Ok(committed)
    }

    /// Lets the value with this digest, which the lease was taken to replace, live for this time
    /// from now on, and gives the lease up. `Duration::ZERO` removes the value.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer, Replacing};
    /// # use larder_lock::{Claimed, Leases, WriteBegun};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (server, minute) = (MemoryServer::new(Clock::system()), Duration::from_secs(60));
    /// # let leases = Leases::new(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("report:7");
    /// # use larder_core::Digest;
    /// server.write("report:7", "still true", Some(minute));
    /// let seen = Digest::of(b"still true");
    /// let claimed = leases.claim(&key, minute, Replacing::Value(&seen)).await?;
    /// let Claimed::Leased(mut lease) = claimed else { panic!("{claimed:?}") };
    /// assert!(lease.touch(&seen, 2 * minute).await?.is_done());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The store's own error; the lease then ends by its time.
    pub async fn touch(&mut self, kept: &Digest, ttl: Duration) -> Result<Committed, StoreError> {
        let ReleaseOnDrop {
            leases, key, token, ..
        } = &self.held;
        let (remote, track) = (&leases.remote, leases.track);
        let touched = remote.touch(key.as_str(), token, kept, ttl, track).await?;
        self.ended();
        Ok(touched)
    }

    /// Gives the lease up; returns whether nobody wrote or invalidated the key since it was taken.
    ///
    /// ```
    /// # use std::{sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer, Replacing};
    /// # use larder_lock::{Claimed, Leases, WriteBegun};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (server, minute) = (MemoryServer::new(Clock::system()), Duration::from_secs(60));
    /// # let leases = Leases::new(Arc::new(server.connect()));
    /// # let key = Key::from_stored_name("report:7");
    /// # let claimed = leases.claim(&key, minute, Replacing::Nothing).await?;
    /// # let Claimed::Leased(lease) = claimed else { unreachable!("it is free") };
    /// assert!(lease.release().await?);
    /// let claimed = leases.claim(&key, minute, Replacing::Nothing).await?;
    /// assert!(matches!(claimed, Claimed::Leased(_)), "it is free again");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The store's own error; the lease then ends by its time.
    pub async fn release(mut self) -> Result<bool, StoreError> {
        self.give_up().await
    }

    pub(crate) async fn give_up(&mut self) -> Result<bool, StoreError> {
        let ReleaseOnDrop {
            leases, key, token, ..
        } = &self.held;
        let clean = leases.remote.release(key.as_str(), token).await?;
        self.ended();
        Ok(clean)
    }

    /// Invalidates the key and gives the lease up, in one step.
    ///
    /// # Errors
    /// The store's own error; the lease then ends by its time.
    pub async fn invalidate(mut self) -> Result<Invalidated, StoreError> {
        let ReleaseOnDrop {
            leases, key, token, ..
        } = &self.held;
        let done = leases.remote.invalidate(key, Some(token)).await?;
        self.ended();
        Ok(done)
    }

    /// Tells whether the lease is known to be lost: taken away, or not renewed in time.
    pub fn is_lost(&self) -> bool {
        self.loss.lost.load(Ordering::Acquire)
    }

    /// Waits until the lease is known to be lost.
    pub async fn lost(&self) {
        loop {
            let told = self.loss.told.notified();
            if self.is_lost() {
                return;
            }
            told.await;
        }
    }

    /// Takes note that the lease is over and the store knows, or will be told: nothing is left to
    /// release, and waiters may claim.
    fn ended(&mut self) {
        self.held.leases.waiters.wake(self.held.key.hash()); // P7 wake-own-waiters
        self.renewal.0.abort();
        self.held.armed = false;
    }
}

/// A renewal ends with its lease.
#[derive(Debug)]
struct Renewal(AbortHandle);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Loss {
    fn happened(&self) {
        self.lost.store(true, Ordering::Release); // pairs with the load in `is_lost`
        self.told.notify_waiters();
    }
}

/// Extends the lease every third of its life, counted from before it was asked for, and tells when
/// it is lost.
async fn renew(
    leases: Leases,
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
        let renewal = leases.remote.renew(key.as_str(), &token, renewed(lease));
        // The limit is the lease's end: an answer that comes later changes nothing.
        match tokio::time::timeout(life.saturating_sub(asked.elapsed()), renewal).await {
            Ok(Ok(true)) => (asked, life) = (asking, renewed(lease)),
            // The store may be back before the lease has run out.
            Ok(Err(_)) if asked.elapsed() < life => {}
            _ => return lost(),
        }
    }
}

/// A lease that may exist. It is released when this is dropped, unless it is known to be over.
#[derive(Debug)]
struct ReleaseOnDrop {
    leases: Leases,
    key: Key,
    token: Token,
    armed: bool,
}

impl ReleaseOnDrop {
    fn new(leases: &Leases, key: &Key) -> Self {
        Self {
            leases: leases.clone(),
            key: key.clone(),
            token: Token::new(),
            armed: true,
        }
    }

    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for ReleaseOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // Without a runtime no task can send it; the lease then ends by its time.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (leases, key, token) = (self.leases.clone(), self.key.clone(), self.token.clone());
            runtime.spawn(async move {
                // An error leaves the lease to its time, as a dead process does.
                let _ = leases.remote.release(key.as_str(), &token).await;
                leases.waiters.wake(key.hash()); // P7 wake-own-waiters
            });
        }
    }
}
