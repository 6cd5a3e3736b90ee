//! The typed door: keys and values have types here, and none below.

pub(crate) mod loading;
mod many;
mod source;
mod write;

use std::{fmt, future::Future, marker::PhantomData, sync::Arc};

use larder_core::{Key, KeyBuf, Phase};
use larder_ttl::Policy;
use tracing::{Instrument, Span};

use crate::{
    CacheKey, Error, LoadResult, SharedError, Stats,
    policy::ActivePolicy,
    process::Process,
    read::{
        LoaderCall,
        further::{NotFresh, Unserved, find, find_or_load, refresh},
    },
    value::{CachedValue, Value, typed},
};

/// The cache of one policy of the TTL table, for one type of keys and one of values. Cheap to
/// clone; all clones are the same cache.
///
/// Where a method takes an `impl CacheKey<K>`, a caller passes a `K`, a `&K`, or a borrowed form of
/// it, such as a `&str` for a `String`. None of them allocates.
///
/// ```
/// # use std::{io, sync::Arc};
/// # use larder::{Cache, Larder};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// let larder = Larder::builder().build().await?;
/// let users: Cache<u64, String> = larder.cache("user_profile")?;
/// let pages: Cache<(u64, String), String> = larder.cache("search_result")?;
///
/// let find = || async { Ok::<_, io::Error>("Ada".to_owned()) };
/// let user: Arc<String> = users.get_or_load(42, find).await?;
/// pages.insert((42, "latest"), "<html>".to_owned()).await?;
/// # Ok(()) }
/// ```
///
/// # Consistency
/// Once a write or an invalidation has returned,
/// - no later read anywhere gets an older value from L2,
/// - no later read in the same process gets an older value from L1,
/// - no read in another process gets an older value from its L1 after the server's push has reached
///   that process, or it knows that its connection is lost.
///
/// # Cancellation
/// Dropping a read does not cancel a load that other callers share. When the last caller drops it,
/// the load is cancelled, unless it refreshes a value that is still being served. A write or an
/// invalidation runs to its end, also if its caller drops it.
pub struct Cache<K, V> {
    pub(crate) policy: Arc<ActivePolicy>,
    pub(crate) process: Arc<Process>,
    types: PhantomData<fn(K) -> V>,
}

impl<K: 'static, V: Value> Cache<K, V> {
    /// Opens the door to a policy that [holds](ActivePolicy::hold) these types.
    pub(crate) fn new(process: Arc<Process>, policy: Arc<ActivePolicy>) -> Self {
        Self {
            policy,
            process,
            types: PhantomData,
        }
    }

    /// Returns the value if a level has it, without loading. `None`: no level has it, the cache
    /// knows that it is absent, or it is stale.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// assert_eq!(users.get(42).await?.unwrap().as_str(), "Ada");
    /// assert_eq!(users.get(43).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::NoRuntime`]. An outage of Redis is no error: the result is then the
    /// value that L1 has, or `None`.
    pub async fn get(&self, key: impl CacheKey<K>) -> Result<Option<Arc<V>>, Error> {
        let unserved = match self.look(&key) {
            Ok(value) => return Ok(value),
            Err(unserved) => unserved,
        };
        Ok(typed(find(&self.policy, *unserved).await?))
    }

    /// Returns the value from L1, else from L2, else from the loader, whose result goes into both
    /// levels.
    ///
    /// One loader of a key runs at a time, over all callers and processes. Exceptions:
    /// - A caller that has waited for the policy's `max_wait` loads by itself, uncached.
    /// - Beside a load that an invalidation has outdated, a new load may run.
    /// - While Redis is out of reach, each process loads for itself.
    ///
    /// In a policy with `stale_for`, callers get a stale value while the loader runs, and if it
    /// fails.
    ///
    /// The loader may return a `V`, an `Option<V>` or a [`Loaded<V>`](crate::Loaded). It runs in a
    /// task of its own, in the `tracing` span of the caller that passed it.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # async fn find_user(id: u64) -> io::Result<String> { Ok(format!("user {id}")) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let user = users.get_or_load(42, || find_user(42)).await?;
    /// assert_eq!(user.as_str(), "user 42");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// All callers that wait for the load get its error, unless there is a stale value to serve.
    /// Nothing is cached.
    /// - [`Error::Load`]: the error that the loader returned; [`Error::Panicked`]: it panicked.
    /// - [`Error::LoadTimedOut`]: it took longer than the policy's `load_timeout`.
    /// - [`Error::TooManyLoads`]: it did not start within the policy's `max_wait`.
    /// - [`Error::Deadlock`]: the call came from inside a loader or writer for which it would wait.
    /// - [`Error::Store`]: it did not start, because L2 is out of reach and the policy says
    ///   `on_outage = "fail"`.
    /// - [`Error::Absent`]: the loader says that there is no value, or the cache remembers that.
    /// - [`Error::Key`]; [`Error::Aborted`]; [`Error::NoRuntime`].
    pub async fn get_or_load<F, Fut>(
        &self,
        key: impl CacheKey<K>,
        loader: F,
    ) -> Result<Arc<V>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        let value = self.resolve(&key, || own_loader(|_| loader())).await?;
        self.expect(&key, value)
    }

    /// Like [`get_or_load`](Self::get_or_load), for a value that may not exist: `None` in place of
    /// [`Error::Absent`].
    ///
    /// The policy's `negative_ttl` says how long the cache remembers that there is none; by default
    /// it does not.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # async fn find_user(id: u64) -> io::Result<Option<String>> {
    /// #     Ok((id < 100).then(|| "Ada".to_owned()))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// assert!(users.find_or_load(42, || find_user(42)).await?.is_some());
    /// assert!(users.find_or_load(999, || find_user(999)).await?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load), except [`Error::Absent`].
    pub async fn find_or_load<F, Fut>(
        &self,
        key: impl CacheKey<K>,
        loader: F,
    ) -> Result<Option<Arc<V>>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        self.resolve(&key, || own_loader(|_| loader())).await
    }

    /// Like [`get_or_load`](Self::get_or_load), with a loader that gets the previous value, if
    /// there is one that can still be served: a stale value, or one that is due for a refresh.
    ///
    /// The loader may answer [`Loaded::not_modified`](crate::Loaded::not_modified). Then the entry
    /// stays and its lifetime starts anew; the cache writes only its expiry.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::{Larder, Loaded};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Page { etag: String, body: String }
    /// # async fn fetch(etag: Option<&str>) -> io::Result<Option<Page>> {
    /// #     Ok((etag != Some("1")).then(|| Page { etag: "1".into(), body: String::new() }))
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let pages = Larder::builder().build().await?.cache::<String, Page>("search_result")?;
    /// let page = pages
    ///     .get_or_revalidate("/", |previous| async move {
    ///         let etag = previous.as_ref().map(|page| page.etag.as_str());
    ///         Ok::<_, io::Error>(match fetch(etag).await? {
    ///             Some(page) => Loaded::new(page),
    ///             None => Loaded::not_modified(), // "304"
    ///         })
    ///     })
    ///     .await?;
    /// assert_eq!(page.etag, "1");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load); [`Error::NothingToKeep`] if the loader answers
    /// "not modified" though it got no value.
    pub async fn get_or_revalidate<F, Fut>(
        &self,
        key: impl CacheKey<K>,
        loader: F,
    ) -> Result<Arc<V>, Error>
    where
        F: FnOnce(Option<Arc<V>>) -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        let value = self.resolve(&key, || own_loader(loader)).await?;
        self.expect(&key, value)
    }

    /// Loads the value with a load that begins after this call, even if a level has a fresh value.
    /// The new value goes into both levels, and to all callers of this refresh. The levels go on
    /// serving readers meanwhile.
    ///
    /// One load serves all calls, in all processes, that came before it began. A load that another
    /// process began before this call is too old. The call then waits for that load to end, at most
    /// `max_wait`. After that it loads by itself, and returns the value without caching it.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// let user = users.refresh(42, || async { Ok::<_, io::Error>("Grace".to_owned()) }).await?;
    /// assert_eq!(user.as_str(), "Grace");
    /// assert_eq!(users.get(42).await?.unwrap().as_str(), "Grace");
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// The cache does not keep the value if a caller has written or invalidated the key during the
    /// load.
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load), but without a stale value in place of the error.
    /// An entry that the levels have stays.
    pub async fn refresh<F, Fut>(&self, key: impl CacheKey<K>, loader: F) -> Result<Arc<V>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        let name = self.policy.key::<K>(&key);
        let name = name.check().map(|()| name.to_key());
        let value = refresh(&self.policy, name, own_loader(|_| loader())).await?;
        self.expect(&key, typed(value))
    }

    /// Names an entry of this policy, for [`Larder::invalidate`](crate::Larder::invalidate).
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// assert_eq!(users.key(42).as_str(), "user:42");
    /// # Ok(()) }
    /// ```
    pub fn key(&self, key: impl CacheKey<K>) -> Key {
        self.policy.key::<K>(&key).to_key()
    }

    /// Returns the policy as the TTL table has it.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// assert_eq!(users.policy().name(), "user_profile");
    /// # Ok(()) }
    /// ```
    pub fn policy(&self) -> &Policy {
        self.policy.settings()
    }

    /// Returns the counts of this policy since the larder was built.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// users.get(42).await?;
    /// assert_eq!(users.stats().l1_hits, 1);
    /// # Ok(()) }
    /// ```
    pub fn stats(&self) -> Stats {
        self.policy.reporter.counters().read()
    }

    /// Looks into L1. Any other result than a fresh value is boxed, so that the future of a hit
    /// stays small.
    #[inline]
    fn look<Q: CacheKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Arc<V>>, Box<Unserved>> {
        self.look_or(key, Unserved::boxed)
    }

    /// The way of a hit: no allocation, no lock, no boxed future. Only if there is no fresh value,
    /// `otherwise` looks for the reason.
    #[inline]
    fn look_or<Q: CacheKey<K> + ?Sized, R>(
        &self,
        key: &Q,
        otherwise: impl FnOnce(&ActivePolicy, &KeyBuf, NotFresh) -> R,
    ) -> Result<Option<Arc<V>>, R> {
        let policy = &*self.policy;
        // Where it is to be, since to move it costs as much as to make it.
        let mut buf = policy.stem.copy();
        buf.add::<K>(key);
        match self.look_into_l1(policy, &buf) {
            Ok(value) => {
                policy.reporter.l1_hit(&buf);
                Ok(value)
            }
            Err(found) => Err(otherwise(policy, &buf, found)),
        }
    }

    /// The value that L1 has fresh.
    #[inline]
    fn look_into_l1(
        &self,
        policy: &ActivePolicy,
        key: &KeyBuf,
    ) -> Result<Option<Arc<V>>, NotFresh> {
        if !key.is_valid() {
            return Err(NotFresh::Absent);
        }
        let looked = policy
            .levels
            .look(key.as_ref(), |entry, phase| match phase {
                Phase::Fresh => match entry.value.take() {
                    None => Ok(None),
                    // A policy holds one type only, so the cast always succeeds; were it not so, it
                    // would be a miss.
                    Some(value) => value.downcast().map(Some).map_err(|_| NotFresh::Absent),
                },
                Phase::Due | Phase::Stale => Err(NotFresh::Aging),
            });
        looked.unwrap_or(Err(NotFresh::Absent))
    }

    /// The value, or the knowledge that there is none, from L1, else from L2, else from the loader.
    async fn resolve<Q: CacheKey<K> + ?Sized>(
        &self,
        key: &Q,
        source: impl FnOnce() -> LoaderCall,
    ) -> Result<Option<Arc<V>>, Error> {
        let unserved = match self.look(key) {
            Ok(value) => return Ok(value),
            Err(unserved) => unserved,
        };
        Ok(typed(find_or_load(&self.policy, *unserved, source).await?))
    }

    fn expect<Q: CacheKey<K> + ?Sized>(
        &self,
        key: &Q,
        value: Option<Arc<V>>,
    ) -> Result<Arc<V>, Error> {
        value.ok_or_else(|| Error::Absent {
            key: self.policy.key::<K>(key).as_str().to_owned(),
        })
    }

    fn owned_key<Q: CacheKey<K> + ?Sized>(&self, key: &Q) -> Result<Key, Error> {
        let key = self.policy.key::<K>(key);
        key.check()?;
        Ok(key.to_key())
    }
}

/// A loader of one key. It runs in a task of its own, but in the span of the caller that passed it.
fn own_loader<V, F, Fut>(loader: F) -> LoaderCall
where
    V: Value,
    F: FnOnce(Option<Arc<V>>) -> Fut + Send + 'static,
    Fut: Future<Output: LoadResult<V>> + Send + 'static,
{
    let span = Span::current();
    LoaderCall::Own(Box::new(|previous| {
        let loading = async {
            let loaded = loader(typed(previous)).await.into_loaded();
            loaded.map(CachedValue::from).map_err(SharedError::new)
        };
        Box::pin(loading.instrument(span))
    }))
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            process: self.process.clone(),
            types: PhantomData,
        }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("policy", &self.policy)
            .finish()
    }
}
