use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    future::Future,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tracing::{Instrument, Span};

use super::{
    Cache,
    many::{AT_ONCE, load_parts},
    own_loader,
    source::Source,
};
use crate::{
    CacheKey, Error, LoadManyResult, LoadResult,
    read::{
        LoaderCall,
        batch::{BatchLoad, BatchSlot},
        further::{Unserved, find_or_load},
    },
    runtime::in_task,
    value::{Value, typed},
};

/// A cache with its loader, made by [`Cache::loading`] or [`Cache::loading_many`]. Cheap to clone;
/// all clones share one cache and one loader.
///
/// Its entries are those of its [`cache`](Self::cache). The reading methods take a `K` or a `&K`,
/// because the loader gets a key of its own; the others take any `impl CacheKey<K>`.
///
/// ```
/// # use std::io;
/// # use larder::{Error, Larder};
/// # #[derive(Clone)] struct Db;
/// # impl Db {
/// #     async fn find(&self, id: u64) -> io::Result<Option<String>> {
/// #         Ok((id < 100).then(|| format!("user {id}")))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
/// # let (larder, db) = (Larder::builder().build().await?, Db);
/// let users = larder
///     .cache::<u64, String>("user_profile")?
///     .loading(db, |db, id| async move { db.find(id).await });
///
/// assert_eq!(users.get(7).await?.as_str(), "user 7");
/// assert_eq!(users.find(999).await?, None);
/// assert!(matches!(users.get(999).await, Err(Error::Absent { .. })));
/// # Ok(()) }
/// ```
///
/// # Consistency, Cancellation
/// As for [`Cache`].
pub struct LoadingCache<K, V> {
    inner: Arc<Inner<K, V>>,
}

struct Inner<K, V> {
    cache: Cache<K, V>,
    source: Source<K, V>,
    window: Duration,
    /// The batch that still takes keys.
    open: Mutex<Option<Batch<K>>>,
}

/// A load of the keys that are wanted within a window.
struct Batch<K> {
    load: Arc<BatchLoad>,
    keys: Keys<K>,
    /// Undecided until the window is over or the batch is full.
    _window: BatchSlot,
}

type Keys<K> = Arc<Mutex<Vec<K>>>;

impl<K, V> Cache<K, V>
where
    K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
    V: Value,
{
    /// Binds a loader of one key to the cache, and the state that it needs, such as a pool of
    /// database connections. Each load gets a clone of that state. The loader may return a `V`, an
    /// `Option<V>` or a [`Loaded<V>`](crate::Loaded).
    ///
    /// See [`LoadingCache`] for an example.
    pub fn loading<S, F, Fut>(&self, state: S, loader: F) -> LoadingCache<K, V>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        let load = move |key| {
            loader(state.clone(), key)
                .map(LoadResult::into_loaded)
                .boxed()
        };
        LoadingCache::new(self.clone(), Source::One(Arc::new(load)))
    }

    /// Like [`loading`](Self::loading), with a loader of many keys: concurrent callers that each
    /// want one key share one load, as in a data loader. A key that the loader leaves out has no
    /// value.
    ///
    /// One call of the loader loads the keys that callers miss within a
    /// [`window`](LoadingCache::window), at most 1,000 of them.
    ///
    /// ```
    /// # use std::{collections::HashMap, io, time::Duration};
    /// # use larder::Larder;
    /// # #[derive(Clone)] struct Db;
    /// # impl Db {
    /// #     async fn find_many(&self, ids: Vec<u64>) -> io::Result<HashMap<u64, String>> {
    /// #         Ok(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let (larder, db) = (Larder::builder().build().await?, Db);
    /// let users = larder
    ///     .cache::<u64, String>("user_profile")?
    ///     .loading_many(db, |db, ids| async move { db.find_many(ids).await })
    ///     .window(Duration::from_millis(1));
    ///
    /// let (one, two) = tokio::join!(users.get(1), users.get(2)); // one call of find_many
    /// assert_eq!((one?.as_str(), two?.as_str()), ("user 1", "user 2"));
    /// assert_eq!(users.get_many(&[3, 4, 5]).await?.len(), 3); // another one
    /// # Ok(()) }
    /// ```
    pub fn loading_many<S, F, Fut>(&self, state: S, loader: F) -> LoadingCache<K, V>
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: LoadManyResult<K, V>> + Send + 'static,
    {
        let load = move |keys| {
            let loaded = loader(state.clone(), keys);
            loaded
                .map(|loaded| Ok(loaded.into_loaded()?.collect()))
                .boxed()
        };
        LoadingCache::new(self.clone(), Source::Many(Arc::new(load)))
    }
}

impl<K, V> LoadingCache<K, V>
where
    K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
    V: Value,
{
    fn new(cache: Cache<K, V>, source: Source<K, V>) -> Self {
        let (window, open) = (Duration::ZERO, Mutex::default());
        Self {
            inner: Arc::new(Inner {
                cache,
                source,
                window,
                open,
            }),
        }
    }

    /// Sets how long a batch of [`loading_many`](Cache::loading_many) takes further keys, from the
    /// first missing key on; default zero, which is the shortest time of the runtime's timer. A
    /// cache made by [`loading`](Cache::loading) has no batches. See the example of
    /// [`loading_many`](Cache::loading_many).
    ///
    /// A hit does not wait for the window. The time limits of a load include it. One or two
    /// milliseconds catch the keys that concurrent requests want. A clone that was made before this
    /// call keeps its own window.
    #[must_use]
    pub fn window(self, window: Duration) -> Self {
        let (cache, source) = (self.inner.cache.clone(), self.inner.source.clone());
        Self {
            inner: Arc::new(Inner {
                cache,
                source,
                window,
                open: Mutex::default(),
            }),
        }
    }

    /// Returns the value from L1, else from L2, else from the loader.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// # let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// # let users = cache.loading((), find);
    /// assert_eq!(users.get(42).await?.as_str(), "user 42");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::get_or_load`]. The error of a loader of many keys goes to all callers of the
    /// batch.
    pub async fn get(&self, key: impl Borrow<K>) -> Result<Arc<V>, Error> {
        let key = key.borrow();
        let value = self.resolve(key).await?;
        self.inner.cache.expect(key, value)
    }

    /// Like [`get`](Self::get), for a value that may not exist: `None` in place of
    /// [`Error::Absent`].
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let users = cache.loading((), |(), id| async move {
    ///     Ok::<_, io::Error>((id == 1).then(|| "Ada".to_owned()))
    /// });
    /// assert_eq!(users.find(1).await?.unwrap().as_str(), "Ada");
    /// assert_eq!(users.find(2).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::find_or_load`].
    pub async fn find(&self, key: impl Borrow<K>) -> Result<Option<Arc<V>>, Error> {
        self.resolve(key.borrow()).await
    }

    /// Returns the values of many keys, without those that have none.
    ///
    /// A loader of many keys loads the missing keys at once, without a [`window`](Self::window), in
    /// one call per 1,000 keys. A loader of one key runs for all missing keys at the same time.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// let users = cache.loading((), find);
    /// assert_eq!(users.get_many(&[1, 2]).await?[&2].as_str(), "user 2");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::get_or_load_many`].
    pub async fn get_many(&self, keys: &[K]) -> Result<HashMap<K, Arc<V>>, Error> {
        let source = self.inner.source.clone();
        // Boxed, because it is large.
        Box::pin(
            self.inner
                .cache
                .get_or_load_many(keys, move |keys| source.load_many(keys)),
        )
        .await
    }

    /// Loads the value with a load that begins after this call, even if a level has a fresh value;
    /// see [`Cache::refresh`]. A loader of many keys gets this key alone, without a
    /// [`window`](Self::window).
    ///
    /// ```
    /// # use std::{io, sync::{Arc, atomic::{AtomicU64, Ordering}}};
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, u64>("rate_limit")?;
    /// let count = Arc::new(AtomicU64::new(0)); // stands for a database
    /// let counts = cache.loading(count, |count, _id| async move {
    ///     Ok::<_, io::Error>(count.fetch_add(1, Ordering::Relaxed))
    /// });
    /// assert_eq!((*counts.get(7).await?, *counts.get(7).await?), (0, 0));
    /// assert_eq!((*counts.refresh(7).await?, *counts.get(7).await?), (1, 1));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::refresh`].
    pub async fn refresh(&self, key: impl Borrow<K>) -> Result<Arc<V>, Error> {
        let key = key.borrow();
        let (source, wanted) = (self.inner.source.clone(), key.clone());
        self.inner
            .cache
            .refresh(key, move || source.load_one(wanted))
            .await
    }

    /// Returns the value if a level has it, without loading, see [`Cache::get`].
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// let users = cache.loading((), find);
    /// assert_eq!(users.get_if_cached(1).await?, None);
    /// assert_eq!(users.get(1).await?, users.get_if_cached(1).await?.unwrap());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::get`].
    pub async fn get_if_cached(&self, key: impl CacheKey<K>) -> Result<Option<Arc<V>>, Error> {
        self.inner.cache.get(key).await
    }

    /// Returns the cache without its loader, with the same entries.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// let users = cache.loading((), find);
    /// users.get(1).await?;
    /// assert_eq!(users.cache().stats().loads, 1);
    /// # Ok(()) }
    /// ```
    pub fn cache(&self) -> &Cache<K, V> {
        &self.inner.cache
    }

    async fn resolve(&self, key: &K) -> Result<Option<Arc<V>>, Error> {
        let unserved = match self.inner.cache.look(key) {
            Ok(value) => return Ok(value),
            Err(unserved) => unserved,
        };
        // Boxed, so that the future of a hit stays small.
        Box::pin(self.load(key, unserved)).await
    }

    async fn load(&self, key: &K, unserved: Box<Unserved>) -> Result<Option<Arc<V>>, Error> {
        let policy = &self.inner.cache.policy;
        match &self.inner.source {
            Source::One(load) => {
                let (load, key) = (load.clone(), key.clone());
                let loader = || own_loader::<V, _, _>(move |_| load(key));
                Ok(typed(find_or_load(policy, *unserved, loader).await?))
            }
            // In a task, because the others of the batch wait until this one wants its key or does
            // not.
            Source::Many(_) => {
                let (this, key, policy) = (self.clone(), key.clone(), policy.clone());
                let name = Some(policy.key::<K>(&key).to_key());
                policy.lifecycle.check()?;
                let further = async move {
                    let loader = || LoaderCall::Batch(this.slot(key));
                    find_or_load(&policy, *unserved, loader).await
                };
                // The caller's span goes along, to the loader too.
                Ok(typed(
                    in_task(name, further.instrument(Span::current())).await??,
                ))
            }
        }
    }

    /// A slot in the batch that is open.
    fn slot(&self, key: K) -> BatchSlot {
        let mut open = lock(&self.inner.open);
        let Batch { load, keys, .. } = open.get_or_insert_with(|| self.open());
        let slot = {
            let mut keys = lock(keys);
            keys.push(key);
            load.slot(keys.len() - 1)
        };
        let full = if slot.number() + 1 < AT_ONCE {
            None
        } else {
            open.take()
        };
        drop(open);
        drop(full); // which ends its window
        slot
    }

    fn open(&self) -> Batch<K> {
        let (keys, source) = (Keys::<K>::default(), self.inner.source.clone());
        let wanted = keys.clone();
        let key = move |part: usize| lock(&wanted)[part].clone();
        let parts = load_parts::<V, K, _, _>(key, move |keys| source.load_many(keys));
        let load = BatchLoad::new(self.inner.cache.policy.clone(), parts);
        let window = load.slot(usize::MAX);
        let (time, closes) = (self.inner.window, Closes(self.inner.clone(), load.clone()));
        // A task of its own: whoever opened the batch may go. Whoever comes here is inside a
        // runtime.
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            drop(closes);
        });
        Batch {
            load,
            keys,
            _window: window,
        }
    }
}

/// Closes a batch, also if its runtime ends before the window does.
struct Closes<K, V>(Arc<Inner<K, V>>, Arc<BatchLoad>);

impl<K, V> Drop for Closes<K, V> {
    fn drop(&mut self) {
        let batch = lock(&self.0.open).take_if(|batch| Arc::ptr_eq(&batch.load, &self.1));
        drop(batch); // not under the lock: it may start the loader
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing done under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, V> Clone for LoadingCache<K, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<K, V> fmt::Debug for LoadingCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadingCache")
            .field("cache", &self.inner.cache)
            .field("window", &self.inner.window)
            .finish_non_exhaustive()
    }
}
