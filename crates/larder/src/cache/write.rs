use std::{future::Future, hash::Hash, sync::Arc};

use larder_core::Key;
use tracing::{Instrument, Span};

use super::{Cache, loading::LoadingCache};
use crate::{
    BoxError, CacheKey, Error, LoadResult, Loaded,
    invalidate::{clear::clear_policies, invalidate_keys},
    observe::Count,
    value::{CachedValue, Value, typed},
    write::{Purpose, Writer, write},
};

/// Writes and invalidations.
impl<K: 'static, V: Value> Cache<K, V> {
    /// Runs the writer, which writes the database and returns the new value, and puts that value
    /// into both levels. Concurrent writers of a key, in any process, take turns, and leave the
    /// cache equal to the database.
    ///
    /// A process that dies before the end leaves no old value behind. While Redis is out of reach,
    /// the writer runs all the same, and this process invalidates L2's value before it reads L2
    /// again. Until then, other processes may serve the old value.
    ///
    /// A writer has no time limit, because larder cannot tell whether a cancelled database write
    /// has happened. A writer that never returns keeps its key's lease, so give it a timeout of its
    /// own.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # async fn rename(id: u64, name: &str) -> io::Result<String> { Ok(name.to_owned()) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let renamed = users.write_through(42, || rename(42, "Grace")).await?;
    /// assert_eq!(users.get(42).await?, Some(renamed));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Before the writer runs: [`Error::WriteBusy`], [`Error::Store`], [`Error::Key`],
    /// [`Error::NoRuntime`]; [`Error::Deadlock`] if the call came from inside a writer for which it
    /// would wait. Afterwards:
    /// - [`Error::Write`]: the error that the writer returned; [`Error::Panicked`]: it panicked.
    ///   The entry is invalidated.
    /// - [`Error::Absent`], [`Error::NothingToKeep`]: the writer returned `None` or "not modified".
    ///   The database is written, and the key has no value.
    /// - [`Error::NotInvalidated`]: the writer has run, and L2 refused the invalidation.
    /// - [`Error::Aborted`]: the runtime shuts down.
    pub async fn write_through<F, Fut>(
        &self,
        key: impl CacheKey<K>,
        writer: F,
    ) -> Result<Arc<V>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        let key = self.owned_key(&key)?;
        let (name, span) = (key.to_string(), Span::current());
        let writing = async move {
            let written = writer()
                .await
                .into_loaded()
                .map_err(|error| Error::write(&name, error))?;
            let value = CachedValue::from(written);
            match typed(value.value.clone()) {
                Some(typed) => Ok((typed, Some(value))),
                None => Err(nothing(name, &value)),
            }
        };
        self.write(key, Purpose::Database, Box::pin(writing.instrument(span)))
            .await
    }

    /// Runs the writer, which writes the database, and leaves the key without a value in every
    /// level. Returns the writer's own result.
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # async fn delete(id: u64) -> io::Result<u64> { Ok(1) }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let deleted = users.write_around(42, || delete(42)).await?;
    /// assert_eq!((deleted, users.get(42).await?), (1, None));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`write_through`](Self::write_through).
    pub async fn write_around<F, Fut, R, E>(
        &self,
        key: impl CacheKey<K>,
        writer: F,
    ) -> Result<R, Error>
    where
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
        self.write(key, Purpose::Database, Box::pin(writing.instrument(span)))
            .await
    }

    /// Puts a value into both levels, after the caller has written the database: a write-through
    /// without a writer.
    ///
    /// The cache keeps nothing of a load of the key that is running. It waits for a running writer
    /// of the key.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder::{Larder, Loaded};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// let grace = Loaded::new("Grace".to_owned()).ttl(Duration::from_secs(5)).tag("org:7");
    /// users.insert(43, grace).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::ValueTooLarge`], [`Error::Encode`] and [`Error::Tag`], before the cache sends
    /// anything. [`Error::Store`] if the key holds a value of another Redis type, which stays, or
    /// if the server refuses the value. Otherwise as for [`write_through`](Self::write_through).
    pub async fn insert(
        &self,
        key: impl CacheKey<K>,
        value: impl Into<Loaded<V>>,
    ) -> Result<(), Error> {
        let (key, value) = self.insertable(&key, value)?;
        let writer = Box::pin(std::future::ready(Ok(((), Some(value)))));
        self.write(key, Purpose::Cache, writer).await
    }

    /// Removes the key's value from every level of every process. For keys of several policies at
    /// once, see [`Larder::invalidate`](crate::Larder::invalidate).
    ///
    /// Call it after your write of the database. Better, let [`write_around`](Self::write_around)
    /// do both.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// users.invalidate(42).await?;
    /// assert_eq!(users.get(42).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Store`] if Redis refused it. While Redis is out of reach the call
    /// succeeds: it removes the value from this process's L1, and from L2 before this process reads
    /// L2 again. In a policy with `levels = "l1"`, it removes the value in this process only.
    pub async fn invalidate(&self, key: impl CacheKey<K>) -> Result<(), Error> {
        let key = self.owned_key(&key)?;
        self.invalidate_owned(vec![key]).await
    }

    /// Removes every entry of this policy from every level of every process. In L2, it scans all
    /// keys. In a policy with [`instant_clear`](crate::Policy::instant_clear), it takes one step
    /// instead, however many entries there are.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// users.clear().await?;
    /// assert_eq!(users.get(42).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// No process keeps the value of a load that began before. A process that starts later does not
    /// find the old entries.
    ///
    /// # Errors
    /// [`Error::Store`] if Redis is out of reach or refused; L1 is empty all the same. With
    /// `instant_clear` an outage is no error: this process remembers the clear, and does it before
    /// it reads L2 again.
    pub async fn clear(&self) -> Result<(), Error> {
        clear_policies(&self.process, vec![self.policy.clone()]).await
    }

    async fn write<R: Send + 'static>(
        &self,
        key: Key,
        purpose: Purpose,
        writer: Writer<R>,
    ) -> Result<R, Error> {
        write(
            self.process.clone(),
            self.policy.clone(),
            key,
            purpose,
            writer,
        )
        .await
    }

    /// A value that can be put in.
    pub(super) fn insertable<Q: CacheKey<K> + ?Sized>(
        &self,
        key: &Q,
        value: impl Into<Loaded<V>>,
    ) -> Result<(Key, CachedValue), Error> {
        let (key, value) = (self.owned_key(key)?, CachedValue::from(value.into()));
        if value.is_renewed {
            return Err(nothing(key.to_string(), &value));
        }
        self.policy.tagging.check(&key, value.tags())?;
        if self.policy.levels.leases().is_some() {
            self.policy.encode(&key, value.value.as_ref(), None)?;
        }
        Ok((key, value))
    }

    pub(super) async fn invalidate_owned(&self, keys: Vec<Key>) -> Result<(), Error> {
        keys.iter()
            .for_each(|_| self.policy.count(Count::Invalidation));
        if self.policy.levels.leases().is_none() {
            keys.iter()
                .for_each(|key| self.policy.levels.invalidate_locally(key));
            return Ok(());
        }
        invalidate_keys(&self.process, keys).await
    }
}

/// Writes and invalidations, as of the cache whose entries these are.
impl<K, V> LoadingCache<K, V>
where
    K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
    V: Value,
{
    /// Writes the database and both levels in one operation, see [`Cache::write_through`].
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// # let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// # let users = cache.loading((), find);
    /// users.write_through(42, || async { Ok::<_, io::Error>("Ada".to_owned()) }).await?;
    /// assert_eq!(users.get(42).await?.as_str(), "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::write_through`].
    pub async fn write_through<F, Fut>(
        &self,
        key: impl CacheKey<K>,
        writer: F,
    ) -> Result<Arc<V>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output: LoadResult<V>> + Send + 'static,
    {
        self.cache().write_through(key, writer).await
    }

    /// Writes the database, and leaves the key without a value, see [`Cache::write_around`].
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// # let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// # let users = cache.loading((), find);
    /// users.write_around(42, || async { Ok::<_, io::Error>(()) }).await?;
    /// assert_eq!(users.get_if_cached(42).await?, None);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::write_around`].
    pub async fn write_around<F, Fut, R, E>(
        &self,
        key: impl CacheKey<K>,
        writer: F,
    ) -> Result<R, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
    {
        self.cache().write_around(key, writer).await
    }

    /// Puts a value into both levels, see [`Cache::insert`].
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// # let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// # let users = cache.loading((), find);
    /// users.insert(42, "Ada".to_owned()).await?;
    /// assert_eq!(users.get(42).await?.as_str(), "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::insert`].
    pub async fn insert(
        &self,
        key: impl CacheKey<K>,
        value: impl Into<Loaded<V>>,
    ) -> Result<(), Error> {
        self.cache().insert(key, value).await
    }

    /// Removes the key's value from every level of every process, see [`Cache::invalidate`].
    ///
    /// ```
    /// # use std::io;
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// # let find = |(), id| async move { Ok::<_, io::Error>(format!("user {id}")) };
    /// # let users = cache.loading((), find);
    /// users.insert(42, "Ada".to_owned()).await?;
    /// users.invalidate(42).await?;
    /// assert_eq!(users.get(42).await?.as_str(), "user 42"); // loaded anew
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`Cache::invalidate`].
    pub async fn invalidate(&self, key: impl CacheKey<K>) -> Result<(), Error> {
        self.cache().invalidate(key).await
    }
}

/// The error of a writer that has no value to cache.
fn nothing(key: String, value: &CachedValue) -> Error {
    match value.is_renewed {
        true => Error::NothingToKeep { key },
        false => Error::Absent { key },
    }
}
