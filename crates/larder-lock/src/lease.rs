use std::{
    mem,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use larder_core::{
    Claim, Committed, Digest, Invalidated, Key, LONGEST_LEASE, RemoteStore, Replacing, StoreError,
    Stored, Token, Track, WriteClaim,
};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    renewal::Renewal,
    sync::lock,
    waiters::{Waiter, Waiters},
};

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
    /// Leases of loads whose runtimes have ended, which the next claim releases.
    left: Arc<Mutex<Vec<(Key, Token)>>>,
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
/// The runtime in which it was taken renews it. When that ends, the lease counts as lost.
///
/// # Cancellation
/// A lease that is dropped is released in the background. If the process dies, or a writer's
/// runtime ends, its time runs out.
#[derive(Debug)]
pub struct Lease {
    held: ReleaseOnDrop,
    renewal: Renewal,
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

impl Leases {
    /// Uses the leases of this store. Pushes must reach [`waiters`](Self::waiters), see
    /// [`larder_core::Lanes::subscribe`].
    pub fn new(remote: Arc<dyn RemoteStore>) -> Self {
        Self {
            remote,
            waiters: Waiters::default(),
            left: Arc::default(),
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
        self.release_left().await;
        // P8 register-then-claim: register, then claim
        let waiter = self.waiters.register(key.hash());
        let (held, asked) = (ReleaseOnDrop::new(self, key, Of::Load), Instant::now());
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
        let (held, asked) = (ReleaseOnDrop::new(self, key, Of::Writer), Instant::now());
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

    /// Releases what loads have left whose runtimes have ended.
    async fn release_left(&self) {
        let left = mem::take(&mut *lock(&self.left)).into_iter();
        join_all(left.map(|(key, token)| self.release(key, token))).await;
    }

    /// Releases a lease whose owner is gone. An error leaves it to its time, as a dead process
    /// does.
    async fn release(&self, key: Key, token: Token) {
        let _ = self.remote.release(key.as_str(), &token).await;
        self.waiters.wake(key.hash()); // P7 wake-own-waiters
    }
}

impl Lease {
    fn new(held: ReleaseOnDrop, lease: Duration, asked: Instant) -> Self {
        let ReleaseOnDrop {
            leases, key, token, ..
        } = &held;
        let remote = leases.remote.clone();
        let renewal = Renewal::start(remote, key.clone(), token.clone(), lease, asked);
        Self { held, renewal }
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
        let touched = leases
            .remote
            .touch(key.as_str(), token, kept, ttl, leases.track)
            .await?;
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
        self.renewal.is_lost()
    }

    /// Waits until the lease is known to be lost.
    pub async fn lost(&self) {
        self.renewal.lost().await;
    }

    /// Takes note that the lease is over and the store knows, or will be told: nothing is left to
    /// release, and waiters may claim.
    fn ended(&mut self) {
        self.held.leases.waiters.wake(self.held.key.hash()); // P7 wake-own-waiters
        self.renewal.end();
        self.held.armed = false;
    }
}

/// A lease that may exist. It is released when this is dropped, unless it is known to be over.
#[derive(Debug)]
struct ReleaseOnDrop {
    leases: Leases,
    key: Key,
    token: Token,
    of: Of,
    armed: bool,
}

/// The owner of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Load,
    Writer,
}

/// A lease that is released in the background, or by the next claim if the runtime ends first.
struct Release {
    leases: Leases,
    key: Key,
    token: Token,
    /// Whether the next claim is to release it.
    is_left: bool,
}

impl ReleaseOnDrop {
    fn new(leases: &Leases, key: &Key, of: Of) -> Self {
        Self {
            leases: leases.clone(),
            key: key.clone(),
            token: Token::new(),
            of,
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
        let release = Release {
            leases: self.leases.clone(),
            key: self.key.clone(),
            token: self.token.clone(),
            // The database may still do what a writer sent: its lease then ends by its time.
            is_left: self.of == Of::Load,
        };
        // Without a runtime, and in one that shuts down, it is dropped in here.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(release.run());
        }
    }
}

impl Release {
    async fn run(mut self) {
        let (key, token) = (self.key.clone(), self.token.clone());
        self.leases.release(key, token).await;
        self.is_left = false;
    }
}

impl Drop for Release {
    // P19 loads-end-with-callers: a load that its runtime cuts off gives its lease back, too
    fn drop(&mut self) {
        if self.is_left {
            let lease = (self.key.clone(), self.token.clone());
            lock(&self.leases.left).push(lease);
        }
    }
}
