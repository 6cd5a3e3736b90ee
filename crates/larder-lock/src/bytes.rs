use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{
    Clock, Generations, Key, KeyRef, Moment, PolicyIndex, Push, PushListener, RemoteStore, Stamp,
    StoreError, Stored, Want,
};

use crate::{
    Accepting, Destination, Event, Leases, LoadError, LoadLimits, Loader, Lookup, Reader, Refusal,
    Request, StampedeConfig, StampedeLock, TagEpochs, Waiters, WrittenBack,
};

/// Values as bytes in a remote store, with one load of each over all processes: the stampede lock
/// without a local level or policies.
///
/// It takes the place of the recipe in which the first process sets a lock key (`SET … NX`), and
/// the others sleep for 100 ms and look again. Here a push wakes the others when the value is
/// there. A slow holder renews its lease, and another process takes over when the lease of a dead
/// holder ends. The store does not keep a value that was invalidated during its load.
///
/// ```
/// use std::{io, sync::Arc, time::Duration};
/// use larder_core::{Clock, Key, MemoryServer};
/// use larder_lock::{LoadLimits, SharedBytes};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MemoryServer::new(Clock::system()); // or a `RedisStore`
/// let (store, minute) = (Arc::new(server.connect()), Duration::from_secs(60));
/// let pages = SharedBytes::new(store, minute, LoadLimits::default());
/// let key = Key::from_stored_name("page:/");
///
/// let load = || async { Ok::<_, io::Error>(b"<h1>Hello</h1>".to_vec()) };
/// let page = pages.get_or_load(&key, load).await?;
/// assert_eq!(page, "<h1>Hello</h1>");
/// assert_eq!(pages.get(&key).await.as_deref(), Some(&b"<h1>Hello</h1>"[..]));
///
/// pages.invalidate(&key).await?; // in every process, and whatever is being loaded
/// assert_eq!(pages.get(&key).await, None);
/// # Ok(()) }
/// ```
pub struct SharedBytes {
    lock: StampedeLock<Bytes, SharedError>,
    leases: Leases,
    listener: Arc<Listener>,
    ttl: Duration,
}

/// The application's own error, as its loader returned it: all who waited for the load share it.
pub type SharedError = Arc<dyn Error + Send + Sync>;

/// 65,536 generations, of 8 bytes each. Keys share them by their hash. An invalidation of one key
/// can let a second load of the other start, and does no other harm.
const KEYS: usize = 1 << 16;

impl SharedBytes {
    /// Keeps values in this store for `ttl`. Give it a store of its own, because a store does not
    /// report its own writes.
    pub fn new(remote: Arc<dyn RemoteStore>, ttl: Duration, limits: LoadLimits) -> Self {
        let generations = Arc::new(Generations::new(KEYS, remote.lanes(), 1));
        let leases = Leases::new(remote);
        let waiters = leases.waiters().clone();
        let listener = Arc::new(Listener {
            generations: generations.clone(),
            waiters,
        });
        let weak = Arc::downgrade(&listener);
        leases.remote().subscribe(weak);
        let lock = StampedeLock::new(StampedeConfig {
            leases: Some(leases.untracked()), // it keeps no copies
            generations,
            policy: PolicyIndex(0),
            tags: None,
            clock: Clock::system(),
            limits,
            keeps_locally: false,
            nesting: Arc::default(),
            want: Want::Value,
        });
        Self {
            lock,
            leases,
            listener,
            ttl,
        }
    }

    /// Returns the value, if the store has one.
    ///
    /// ```
    /// # use std::{io, sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer};
    /// # use larder_lock::{LoadLimits, SharedBytes};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryServer::new(Clock::system()).connect());
    /// # let pages = SharedBytes::new(store, Duration::from_secs(60), LoadLimits::default());
    /// let key = Key::from_stored_name("page:/");
    /// assert_eq!(pages.get(&key).await, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get(&self, key: &Key) -> Option<Bytes> {
        self.lock.get(key, &BytesReader).await
    }

    /// Returns the value from the store, else from the loader, whose value goes into the store.
    ///
    /// ```
    /// # use std::{io, sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer};
    /// # use larder_lock::{LoadLimits, SharedBytes};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryServer::new(Clock::system()).connect());
    /// # let pages = SharedBytes::new(store, Duration::from_secs(60), LoadLimits::default());
    /// let key = Key::from_stored_name("page:/");
    /// let load = || async { Ok::<_, io::Error>(b"<h1>Hello</h1>".to_vec()) };
    /// assert_eq!(pages.get_or_load(&key, load).await?, "<h1>Hello</h1>");
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancellation
    /// See [`StampedeLock::get_or_load`].
    ///
    /// # Errors
    /// The loader's own error, or the [`Failure`](crate::Failure) of the load. While the store is
    /// out of reach, the loader is called.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get_or_load<F, Fut, E>(
        &self,
        key: &Key,
        loader: F,
    ) -> Result<Bytes, LoadError<SharedError>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.lock.get_or_load(self.request(key, loader)).await
    }

    /// Loads the value with a load that begins after this call, see [`StampedeLock::refresh`].
    ///
    /// ```
    /// # use std::{io, sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer};
    /// # use larder_lock::{LoadLimits, SharedBytes};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryServer::new(Clock::system()).connect());
    /// # let pages = SharedBytes::new(store, Duration::from_secs(60), LoadLimits::default());
    /// let key = Key::from_stored_name("page:/");
    /// pages.get_or_load(&key, || async { Ok::<_, io::Error>(b"old".to_vec()) }).await?;
    /// let page = pages.refresh(&key, || async { Ok::<_, io::Error>(b"new".to_vec()) }).await?;
    /// assert_eq!((page, pages.get(&key).await.as_deref()), ("new".into(), Some(&b"new"[..])));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn refresh<F, Fut, E>(
        &self,
        key: &Key,
        loader: F,
    ) -> Result<Bytes, LoadError<SharedError>>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.lock.refresh(self.request(key, loader)).await
    }

    /// Removes the value, and refuses the value of a load that is under way.
    ///
    /// ```
    /// # use std::{io, sync::Arc, time::Duration};
    /// # use larder_core::{Clock, Key, MemoryServer};
    /// # use larder_lock::{LoadLimits, SharedBytes};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let store = Arc::new(MemoryServer::new(Clock::system()).connect());
    /// # let pages = SharedBytes::new(store, Duration::from_secs(60), LoadLimits::default());
    /// let key = Key::from_stored_name("page:/");
    /// let load = || async { Ok::<_, io::Error>(b"<h1>Hello</h1>".to_vec()) };
    /// pages.get_or_load(&key, load).await?;
    /// pages.invalidate(&key).await?;
    /// assert_eq!(pages.get(&key).await, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The store's own error. While the store is out of reach the call succeeds, and this store
    /// removes the value before it reads it again.
    pub async fn invalidate(&self, key: &Key) -> Result<(), StoreError> {
        self.listener.generations.bump_key(key.hash());
        let done = self.leases.invalidate(key).await;
        self.listener.generations.bump_key(key.hash()); // P9 reply-invalidates-again
        done.map(drop)
    }

    fn request<F, Fut, E>(&self, key: &Key, loader: F) -> Request<BytesReader, BytesLoader>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Vec<u8>, E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let load = move || {
            let loading = async { loader().await };
            let shared = |loaded: Result<Vec<u8>, E>| match loaded {
                Ok(value) => Ok(Bytes::from(value)),
                Err(error) => Err(SharedError::from(error.into())),
            };
            loading.map(shared).boxed()
        };
        let loader = BytesLoader {
            load: Some(Box::new(load)),
            ttl: self.ttl,
        };
        Request {
            key: key.clone(),
            reader: BytesReader,
            loader,
            in_batch: false,
        }
    }
}

/// Takes every value for fresh, and keeps none.
#[derive(Clone, Debug)]
struct BytesReader;

impl Reader for BytesReader {
    type Value = Bytes;

    fn look(&self, _key: &Key) -> Lookup<Bytes> {
        Lookup::Absent(None)
    }

    fn accept<'a>(
        &'a self,
        _key: &'a Key,
        stored: Stored,
        _ends: Moment,
        _stamp: Stamp,
    ) -> Accepting<'a, Bytes> {
        Accepting::Done(Lookup::Fresh(stored.value))
    }

    fn observe(&self, key: &Key, event: Event<'_>) {
        tracing::debug!(%key, ?event);
    }
}

struct BytesLoader {
    load: Option<Load>,
    ttl: Duration,
}

type Load = Box<dyn FnOnce() -> BoxFuture<'static, Result<Bytes, SharedError>> + Send>;

impl Loader for BytesLoader {
    type Value = Bytes;
    type Error = SharedError;

    fn load(
        &mut self,
        _key: &Key,
        _previous: Option<Bytes>,
    ) -> BoxFuture<'static, Result<Bytes, SharedError>> {
        match self.load.take() {
            Some(load) => load(),
            // It is called once only.
            None => Box::pin(std::future::pending()),
        }
    }

    async fn write_back(
        &mut self,
        _key: &Key,
        value: &Bytes,
        _epochs: TagEpochs,
        to: Destination<'_>,
    ) -> WrittenBack {
        let Destination::Remote(commit) = to else {
            return WrittenBack::DONE;
        };
        match commit.store(value, self.ttl).await {
            Ok(committed) if committed.is_done() => WrittenBack::DONE,
            Ok(_refused) => WrittenBack::Refused(Refusal::Lease),
            Err(error) => WrittenBack::Failed(error),
        }
    }
}

/// Carries the store's pushes to the generations and the waiters.
#[derive(Debug)]
struct Listener {
    generations: Arc<Generations>,
    waiters: Waiters,
}

impl PushListener for Listener {
    fn on_push(&self, push: Push<'_>) {
        match push {
            Push::Value(key) => self.generations.bump_key(KeyRef::new(key).hash()),
            // P10 loss-told-before-successor
            Push::Lane(lane) => self.generations.bump_lane(lane),
            Push::Prefix(_) => self.generations.bump_policy(PolicyIndex(0)),
            Push::Lease(_) | Push::Tag(..) | Push::TagEpoch(_) => {}
        }
        self.waiters.on_push(push);
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes")
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
