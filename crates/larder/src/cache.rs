use std::{fmt, future::Future, marker::PhantomData, sync::Arc};

use larder_core::{Key, KeyBuf, Phase};
use larder_ttl::Policy;
use tracing::{Instrument, Span};

use crate::{
    BoxError, CacheKey, Error, LoadResult, Loaded, SharedError, Stats,
    invalidate::{clear::clear_policies, invalidate_keys},
    policy::{ActivePolicy, L1Entry},
    process::Process,
    read::{
        Loader,
        further::{Unserved, find, find_or_load},
    },
    stats::Count,
    value::{CachedValue, Value, typed},
    write::write,
};

/// The cache of one policy of the TTL table, for one type of value. Cheap to clone; all clones are the same cache.
///
/// # Consistency
/// Once a write or an invalidation has returned, no later read anywhere gets an older value from L2, no later read in
/// the same process gets one from L1, and no read in another process gets one from its L1 after the server's push
/// has reached it, or its connection is known to be lost.
///
/// # Cancellation
/// A read that is dropped leaves its load to those who also wait for it; when the last one is dropped, the load is
/// given up, unless it replaces a value that is still served. A write or an invalidation runs to its end, whether its caller waits or not.
pub struct Cache<T> {
    pub(crate) policy: Arc<ActivePolicy>,
    pub(crate) process: Arc<Process>,
    value: PhantomData<fn() -> T>,
}

impl<T: Value> Cache<T> {
    /// Opens the door to a policy that [holds](ActivePolicy::hold) this type.
    pub(crate) fn new(process: Arc<Process>, policy: Arc<ActivePolicy>) -> Self {
        Self { policy, process, value: PhantomData }
    }

    /// Returns the value if a level has it, without loading. `None` if none has, if it is known to be absent, or if it is
    /// stale.
    ///
    /// # Errors
    /// [`Error::Key`]. With Redis out of reach it is `None`.
    pub async fn get<K: CacheKey>(&self, key: K) -> Result<Option<Arc<T>>, Error> {
        let unserved = match self.look(&key) {
            Ok(value) => return Ok(value),
            Err(unserved) => unserved,
        };
        // Boxed, so that the future of a hit stays small.
        Ok(typed(Box::pin(find(&self.policy, unserved)).await?))
    }

    /// Returns the value from L1, else from L2, else from the loader, whose result goes into both levels.
    ///
    /// However many callers want the key, in however many processes, one loader runs at a time. In a policy with
    /// `stale_for`, a stale value is served meanwhile, and if the load fails.
    ///
    /// # Errors
    /// Where there is no stale value to serve: [`Error::Load`] with what the loader returned; [`Error::Panicked`];
    /// [`Error::LoadTimedOut`] after the policy's `load_timeout`; [`Error::TooManyLoads`] after its `max_wait`, and
    /// [`Error::Store`] while L2 is out of reach and the policy says `on_outage = "fail"`, both before the loader is
    /// called; [`Error::Absent`] while it is remembered that there is no value, or if the load that this call
    /// joined, one of `find_or_load`, found none; [`Error::Key`]; [`Error::Aborted`] and
    /// [`Error::NoRuntime`]. All who waited for the load get the same error, and nothing is cached.
    pub async fn get_or_load<K, F, Fut>(&self, key: K, loader: F) -> Result<Arc<T>, Error>
    where
        K: CacheKey,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<T>> + Send + 'static,
    {
        let value = self.resolve(&key, || own_loader(|_| loader())).await?;
        self.expect(&key, value)
    }

    /// Like [`get_or_load`](Self::get_or_load) for a value that may not exist. The policy's `negative_ttl` says how long
    /// its absence is remembered, by default not at all.
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load), but for `Absent`.
    pub async fn find_or_load<K, F, Fut>(&self, key: K, loader: F) -> Result<Option<Arc<T>>, Error>
    where
        K: CacheKey,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<T>> + Send + 'static,
    {
        self.resolve(&key, || own_loader(|_| loader())).await
    }

    /// Like [`get_or_load`](Self::get_or_load) with a loader that is shown the entry which it is to replace, if there is
    /// one that can still be served: a stale one, or one that is reloaded ahead of its time. It may answer
    /// [`Loaded::not_modified`]; then that entry is kept, its life starts anew, and nothing is written but its expiry.
    ///
    /// ```
    /// # use std::{io, sync::Arc};
    /// # use larder::{Cache, Error, Loaded};
    /// # #[derive(serde::Serialize, serde::Deserialize)] struct Page { etag: String, body: String }
    /// # async fn fetch(etag: Option<&str>) -> io::Result<Option<Page>> { Ok(None) }
    /// # async fn example(pages: Cache<Page>) -> Result<Arc<Page>, Error> {
    /// pages.get_or_revalidate("/", |previous| async move {
    ///     let etag = previous.as_ref().map(|page| page.etag.as_str());
    ///     Ok::<_, io::Error>(match fetch(etag).await? {
    ///         Some(page) => Loaded::new(page),
    ///         None => Loaded::not_modified(), // "304"
    ///     })
    /// }).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load); [`Error::NothingToKeep`] for "not modified" without an entry.
    pub async fn get_or_revalidate<K, F, Fut>(&self, key: K, loader: F) -> Result<Arc<T>, Error>
    where
        K: CacheKey,
        F: FnOnce(Option<Arc<T>>) -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<T>> + Send + 'static,
    {
        let value = self.resolve(&key, || own_loader(loader)).await?;
        self.expect(&key, value)
    }

    /// Runs the writer, which writes the database and returns the new value, and puts that value into both levels,
    /// as one operation: concurrent writers of a key, in any process, leave the cache equal to the database.
    ///
    /// A process that dies in between leaves no old value behind. With Redis out of reach, the database is written,
    /// and what L2 holds is invalidated before this process reads it again; until then, other processes may.
    ///
    /// A writer has no time limit, because nobody can tell whether a database write that was given up has happened:
    /// one that never returns keeps its key's lease, so give it a time-out of its own.
    ///
    /// # Errors
    /// [`Error::Absent`] or [`Error::NothingToKeep`] if the writer returns [`Loaded::absent`] or
    /// [`Loaded::not_modified`]: the database is written, and the key has no value.
    /// [`Error::WriteBusy`] and [`Error::Store`] before the database is touched. [`Error::Write`] or
    /// [`Error::Panicked`] from the writer; the entry is then invalidated. [`Error::NotInvalidated`] if the database
    /// was written and L2 refused the invalidation. [`Error::Key`]; [`Error::Aborted`] and [`Error::NoRuntime`].
    pub async fn write_through<K, F, Fut>(&self, key: K, writer: F) -> Result<Arc<T>, Error>
    where
        K: CacheKey,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<T>> + Send + 'static,
    {
        let key = self.owned_key(&key)?;
        let (name, span) = (key.to_string(), Span::current());
        let writing = async move {
            let written = writer().await.into_loaded().map_err(|error| Error::write(&name, error))?;
            let found = CachedValue::from(written);
            match typed(found.value.clone()) {
                Some(value) => Ok((value, Some(found))),
                None => Err(nothing(name, &found)),
            }
        };
        let writer = Box::pin(writing.instrument(span));
        self.write(key, writer).await
    }

    /// Runs the writer, which writes the database, and leaves the key without a value in every level.
    ///
    /// # Errors
    /// As for [`write_through`](Self::write_through).
    pub async fn write_around<K, F, Fut, R, E>(&self, key: K, writer: F) -> Result<R, Error>
    where
        K: CacheKey,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
    {
        let key = self.owned_key(&key)?;
        let (name, span) = (key.to_string(), Span::current());
        let writing = async move {
            let reply = writer().await.map_err(|error| Error::write(name, error))?;
            Ok((reply, None))
        };
        let writer = Box::pin(writing.instrument(span));
        self.write(key, writer).await
    }

    /// Puts a value into both levels: a write-through whose database write is already done.
    ///
    /// A load of the key that is under way is refused; a writer that is at work is waited for.
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::Encode`] and [`Error::Tag`] before anything is sent; else as for
    /// [`write_through`](Self::write_through).
    pub async fn insert<K: CacheKey>(&self, key: K, value: impl Into<Loaded<T>>) -> Result<(), Error> {
        let (key, found) = self.insertable(&key, value)?;
        let writer = Box::pin(std::future::ready(Ok(((), Some(found)))));
        self.write(key, writer).await
    }

    /// Removes the key's value from every level of every process. For keys of several policies at once, see
    /// [`Larder::invalidate`](crate::Larder::invalidate).
    ///
    /// Call it after the database was written; better, let [`write_around`](Self::write_around) do both.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Store`] if Redis refused it. With Redis out of reach it succeeds: the value is gone
    /// here, and in L2 before this process reads it again. In a policy with `levels = "l1"` it is this process's only.
    pub async fn invalidate<K: CacheKey>(&self, key: K) -> Result<(), Error> {
        let key = self.owned_key(&key)?;
        self.invalidate_owned(vec![key]).await
    }

    /// Removes every entry of this policy from every level of every process. In L2 the keys are scanned, unless the policy is
    /// [`framed`](Policy::instant_clear): then it is one step, whatever their number.
    ///
    /// # Consistency
    /// A load that began before is refused, in every process, and a process that starts later is not served what was
    /// cleared.
    ///
    /// # Errors
    /// [`Error::Store`] if Redis is out of reach or refused; L1 is empty all the same. The clear of a framed policy is
    /// remembered instead, and done before Redis is read again.
    pub async fn clear(&self) -> Result<(), Error> {
        clear_policies(&self.process, vec![self.policy.clone()]).await
    }

    /// Names an entry of this policy, for [`Larder::invalidate`](crate::Larder::invalidate).
    pub fn key<K: CacheKey>(&self, key: K) -> Key {
        self.policy.key(&key).to_key()
    }

    /// The policy of the TTL table.
    pub fn policy(&self) -> &Policy {
        self.policy.settings()
    }

    /// What happened in this policy so far.
    pub fn stats(&self) -> Stats {
        self.policy.reporter.counters().read()
    }

    /// Looks into L1. What it does not serve is boxed, so that the future of a hit stays small.
    #[inline]
    pub(crate) fn look<K: CacheKey + ?Sized>(&self, key: &K) -> Result<Option<Arc<T>>, Box<Unserved>> {
        self.look_or(key, Unserved::boxed)
    }

    /// The way of a hit: no allocation, no lock, no boxed future. A fresh value is served, and
    /// `otherwise` tells apart everything else, where there is time for it.
    #[inline]
    pub(crate) fn look_or<K: CacheKey + ?Sized, R>(
        &self,
        key: &K,
        otherwise: impl FnOnce(&ActivePolicy, &KeyBuf, Option<L1Entry>) -> R,
    ) -> Result<Option<Arc<T>>, R> {
        let policy = &*self.policy;
        // Where it is to be, since to move it costs as much as to make it.
        let mut buf = policy.stem.copy();
        buf.add(key);
        match self.look_into_l1(policy, &buf) {
            Ok(value) => {
                policy.reporter.l1_hit(&buf);
                Ok(value)
            }
            Err(entry) => Err(otherwise(policy, &buf, entry)),
        }
    }

    /// The value that L1 has fresh, or else what it has.
    #[inline]
    fn look_into_l1(&self, policy: &ActivePolicy, key: &KeyBuf) -> Result<Option<Arc<T>>, Option<L1Entry>> {
        if !key.is_valid() {
            return Err(None);
        }
        let looked = policy.levels.look(key.as_ref(), |entry, phase| match phase {
            Phase::Fresh => match entry.value.take() {
                None => Ok(None),
                // A policy holds one type only, so the cast always succeeds; were it not so, it
                // would be a miss.
                Some(value) => value.downcast().map(Some).map_err(|_| None),
            },
            _ => Err(Some(L1Entry {
                value: entry.value.take(),
                phase,
                stamp: entry.stamp,
                tags: entry.tags.take(),
            })),
        });
        looked.unwrap_or(Err(None))
    }

    /// The value, or the knowledge that there is none, from L1, else from L2, else from the loader.
    pub(crate) async fn resolve<K: CacheKey + ?Sized>(
        &self,
        key: &K,
        loader: impl FnOnce() -> Loader,
    ) -> Result<Option<Arc<T>>, Error> {
        let unserved = match self.look(key) {
            Ok(value) => return Ok(value),
            Err(unserved) => unserved,
        };
        // Boxed, so that the future of a hit stays small.
        Ok(typed(Box::pin(find_or_load(&self.policy, unserved, loader)).await?))
    }

    async fn write<R: Send + 'static>(&self, key: Key, writer: crate::write::Writer<R>) -> Result<R, Error> {
        write(self.process.clone(), self.policy.clone(), key, writer).await
    }

    /// A value that can be put in.
    pub(crate) fn insertable<K: CacheKey>(
        &self,
        key: &K,
        value: impl Into<Loaded<T>>,
    ) -> Result<(Key, CachedValue), Error> {
        let (key, found) = (self.owned_key(key)?, CachedValue::from(value.into()));
        if found.is_renewed {
            return Err(nothing(key.to_string(), &found));
        }
        self.policy.tagging.check(&key, found.tags())?;
        if self.policy.levels.leases().is_some() {
            self.policy.encode(&key, found.value.as_ref(), None)?;
        }
        Ok((key, found))
    }

    pub(crate) async fn invalidate_owned(&self, keys: Vec<Key>) -> Result<(), Error> {
        keys.iter().for_each(|_| self.policy.count(Count::Invalidation));
        if self.policy.levels.leases().is_none() {
            keys.iter().for_each(|key| self.policy.levels.invalidate_locally(key));
            return Ok(());
        }
        invalidate_keys(&self.process, keys).await
    }

    pub(crate) fn expect<K: CacheKey + ?Sized>(
        &self,
        key: &K,
        value: Option<Arc<T>>,
    ) -> Result<Arc<T>, Error> {
        value.ok_or_else(|| Error::Absent { key: self.policy.key(key).as_str().to_owned() })
    }

    pub(crate) fn owned_key<K: CacheKey>(&self, key: &K) -> Result<Key, Error> {
        let key = self.policy.key(key);
        key.check()?;
        Ok(key.to_key())
    }
}

/// A loader of one key. It runs in a task of its own, but in the span of the caller that brings it.
fn own_loader<T, F, Fut>(loader: F) -> Loader
where
    T: Value,
    F: FnOnce(Option<Arc<T>>) -> Fut + Send + 'static,
    Fut: Future<Output: LoadResult<T>> + Send + 'static,
{
    let span = Span::current();
    Loader::Own(Box::new(|previous| {
        let loading = async {
            let loaded = loader(typed(previous)).await.into_loaded();
            loaded.map(CachedValue::from).map_err(SharedError::new)
        };
        Box::pin(loading.instrument(span))
    }))
}

/// What a writer gets who has no value to cache.
fn nothing(key: String, found: &CachedValue) -> Error {
    match found.is_renewed {
        true => Error::NothingToKeep { key },
        false => Error::Absent { key },
    }
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self { policy: self.policy.clone(), process: self.process.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("policy", &self.policy).finish()
    }
}
