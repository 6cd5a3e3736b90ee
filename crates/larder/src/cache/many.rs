use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use larder_core::{Key, Phase};
use larder_lock::{Aging, Lookup, Request};
use tracing::{Instrument, Span};

use super::Cache;
use crate::{
    CacheKey, Error, LoadManyResult, Loaded, SharedError,
    read::{
        Load, LoaderCall, Read,
        batch::{BatchLoad, LoadParts},
        error,
        further::Unserved,
    },
    runtime::in_task,
    value::{CachedValue, CallId, Value, typed},
    write::{Purpose, write},
};

/// 1,000: the number of keys of one call that it looks up, loads or writes at once. It takes
/// further keys in later chunks.
pub(super) const AT_ONCE: usize = 1000;

/// Many keys in one call. The keys' `Eq` and `Hash` should agree with their texts as keys. Each key
/// by itself has the promises of the calls for one key.
impl<K: 'static, V: Value> Cache<K, V> {
    /// Returns the values that a level has, without loading, as [`get`](Self::get) does. It asks L2
    /// for the keys that L1 does not have, in one round trip per 1,000 keys and lane.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(1, "Ada".to_owned()).await?;
    /// let found = users.get_many(&[1, 2]).await?;
    /// assert_eq!((found.len(), found[&1].as_str()), (1, "Ada"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// Each value is one that [`get`](Self::get) could return. Together they are no snapshot.
    ///
    /// # Errors
    /// [`Error::Key`] before any store is asked; [`Error::NoRuntime`]. While Redis is out of reach,
    /// the result has the values of L1.
    pub async fn get_many<Q>(&self, keys: &[Q]) -> Result<HashMap<Q, Arc<V>>, Error>
    where
        Q: CacheKey<K> + Clone + Eq + Hash,
    {
        let InL1 {
            mut found, missing, ..
        } = self.look_many(keys)?;
        let reporter = &self.policy.reporter;
        if !missing.is_empty() {
            self.policy
                .lifecycle
                .check()
                .inspect_err(|_| reporter.failed(missing.len()))?;
        }
        for missing in missing.chunks(AT_ONCE) {
            let look = |name: &Key| (name.clone(), Read::new(self.policy.clone()));
            let looks: Vec<_> = missing.iter().map(|(_, name)| look(name)).collect();
            // Boxed, because it is large.
            let values = Box::pin(self.policy.lock.get_many(&looks)).await;
            for (((key, name), (_, read)), value) in missing.iter().zip(&looks).zip(values) {
                reporter.found(name, read.call(), value.as_ref());
                let value = value.and_then(|value| typed(value.value));
                found.extend(value.map(|value| ((*key).clone(), value)));
            }
        }
        Ok(found)
    }

    /// Returns the values from L1, else from L2, else from the loader. The loader gets all keys
    /// that neither level has and no other caller loads, and its values go into both levels. A key
    /// that the loader leaves out has no value, and is not in the result;
    /// [`negative_ttl`](crate::Policy::negative_ttl) says how long the cache remembers that.
    ///
    /// Each key has its own lease. If several callers, in any process, want the same keys, each
    /// loads the keys whose lease it gets, and waits for the others. The loader may run more than
    /// once: per 1,000 missing keys, and again for keys whose load by another caller failed or was
    /// invalidated. Each run is one of the policy's [`max_loads`](crate::Policy::max_loads).
    ///
    /// ```
    /// # use std::{collections::HashMap, io, sync::Arc};
    /// # use larder::Larder;
    /// # async fn find_many(ids: Vec<u64>) -> io::Result<HashMap<u64, String>> {
    /// #     let there = ids.into_iter().filter(|id| *id < 3);
    /// #     Ok(there.map(|id| (id, format!("user {id}"))).collect())
    /// # }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// let found: HashMap<u64, Arc<String>> = users.get_or_load_many(&[1, 2, 3], find_many).await?;
    /// assert_eq!((found.len(), found[&2].as_str()), (2, "user 2"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// As for [`get_many`](Self::get_many).
    ///
    /// # Cancellation
    /// Dropping the call does not cancel loads that other callers share, see [`Cache`].
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load), except [`Error::Absent`], if one of the keys has
    /// no value and no stale value can be served. The whole call then fails; the values that it
    /// found or loaded are cached.
    pub async fn get_or_load_many<Q, F, Fut>(
        &self,
        keys: &[Q],
        loader: F,
    ) -> Result<HashMap<Q, Arc<V>>, Error>
    where
        Q: CacheKey<K> + Clone + Eq + Hash + Send + Sync + 'static,
        F: FnOnce(Vec<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output: LoadManyResult<Q, V>> + Send + 'static,
    {
        let InL1 {
            mut found,
            due,
            missing,
        } = self.look_many(keys)?;
        let runtime = self.policy.lifecycle.check();
        if runtime.is_ok() {
            for due in in_chunks(due) {
                let (keys, due): (Vec<Q>, Vec<_>) = due
                    .into_iter()
                    .map(|(key, name, due)| (key.clone(), (name, due)))
                    .unzip();
                let (names, due): (Vec<Key>, Vec<_>) = due.into_iter().unzip();
                for (request, due) in self
                    .requests(keys, names, loader.clone())
                    .into_iter()
                    .zip(due)
                {
                    self.policy.lock.reload(request, due);
                }
            }
        }
        let reporter = &self.policy.reporter;
        let mut uncounted = missing.len();
        if uncounted > 0 {
            runtime.inspect_err(|_| reporter.failed(uncounted))?;
        }
        for missing in in_chunks(missing) {
            uncounted -= missing.len();
            let loaded = self.load_chunk(missing, loader.clone()).await;
            found.extend(loaded.inspect_err(|_| reporter.failed(uncounted))?);
        }
        Ok(found)
    }

    /// Loads at most [`AT_ONCE`] keys, and counts each.
    async fn load_chunk<Q, F, Fut>(
        &self,
        missing: Vec<(&Q, Key)>,
        loader: F,
    ) -> Result<Vec<(Q, Arc<V>)>, Error>
    where
        Q: Clone + Eq + Hash + Send + Sync + 'static,
        F: FnOnce(Vec<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output: LoadManyResult<Q, V>> + Send + 'static,
    {
        let reporter = &self.policy.reporter;
        let (keys, names): (Vec<Q>, Vec<Key>) = missing
            .into_iter()
            .map(|(key, name)| (key.clone(), name))
            .unzip();
        let first = names.first().cloned();
        let requests = self.requests(keys.clone(), names.clone(), loader);
        let calls: Vec<CallId> = requests
            .iter()
            .map(|request| request.reader.call())
            .collect();
        let policy = self.policy.clone();
        let loading = in_task(first, async move {
            policy.lock.get_or_load_many(requests).await
        });
        let outcomes = loading
            .await
            .inspect_err(|_| reporter.failed(calls.len()))?;
        let (mut found, mut failed) = (Vec::with_capacity(keys.len()), None);
        for (((key, name), call), outcome) in keys.into_iter().zip(names).zip(calls).zip(outcomes) {
            match outcome {
                Ok(value) => {
                    reporter.served(&name, call, &value);
                    found.extend(typed(value.value).map(|value| (key, value)));
                }
                Err(why) => {
                    reporter.failed(1);
                    failed.get_or_insert_with(|| error(&name, why));
                }
            }
        }
        failed.map_or(Ok(found), Err)
    }

    /// Puts values into both levels, each as [`insert`](Self::insert) does.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert_many([(1, "Ada".to_owned()), (2, "Grace".to_owned())]).await?;
    /// assert_eq!(users.get_many(&[1, 2]).await?.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// The cache inserts each value atomically. A reader may see one value and not yet the next. If
    /// the caller gives a key twice, either value may stay, or none.
    ///
    /// # Cancellation
    /// An insertion that has begun runs to its end. A dropped call does not begin its further
    /// chunks of 1,000 entries.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert). An error about a key or value comes before the cache sends
    /// anything. Any other error is the first one, after the cache has tried all entries.
    pub async fn insert_many<Q: CacheKey<K>, U: Into<Loaded<V>>>(
        &self,
        entries: impl IntoIterator<Item = (Q, U)>,
    ) -> Result<(), Error> {
        let insertable = |(key, value): (Q, U)| self.insertable(&key, value);
        let entries = entries
            .into_iter()
            .map(insertable)
            .collect::<Result<Vec<_>, Error>>()?;
        let mut done = Ok(());
        for entries in in_chunks(entries) {
            let writes = entries.into_iter().map(|(key, value)| {
                let writer = Box::pin(std::future::ready(Ok(((), Some(value)))));
                write(
                    self.process.clone(),
                    self.policy.clone(),
                    key,
                    Purpose::Cache,
                    writer,
                )
            });
            done = join_all(writes).await.into_iter().fold(done, Result::and);
        }
        done
    }

    /// Removes the keys' values from every level of every process, each as
    /// [`invalidate`](Self::invalidate) does. For keys of several policies see
    /// [`Larder::invalidate`](crate::Larder::invalidate).
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert_many([(1, "Ada".to_owned()), (2, "Grace".to_owned())]).await?;
    /// users.invalidate_many(&[1, 2]).await?;
    /// assert!(users.get_many(&[1, 2]).await?.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// The cache invalidates each key atomically. A reader may find one key gone, and the next one
    /// not yet.
    ///
    /// # Errors
    /// [`Error::Key`], before the cache invalidates any key. [`Error::Store`] if Redis refused a
    /// key, after the cache has tried all others.
    pub async fn invalidate_many<Q: CacheKey<K>>(&self, keys: &[Q]) -> Result<(), Error> {
        let keys = keys
            .iter()
            .map(|key| self.owned_key(key))
            .collect::<Result<Vec<_>, Error>>()?;
        self.invalidate_owned(keys).await
    }

    /// Looks into L1.
    fn look_many<'k, Q>(&self, keys: &'k [Q]) -> Result<InL1<'k, Q, V>, Error>
    where
        Q: CacheKey<K> + Clone + Eq + Hash,
    {
        let mut in_l1 = InL1 {
            found: HashMap::with_capacity(keys.len()),
            due: Vec::new(),
            missing: Vec::new(),
        };
        for (n, key) in keys.iter().enumerate() {
            match self.look_or(key, Unserved::new) {
                Ok(value) => in_l1.found.extend(value.map(|value| (key.clone(), value))),
                // The keys before this one are counted as hits, or missing.
                Err(Unserved {
                    key: Err(refusal), ..
                }) => {
                    self.policy
                        .reporter
                        .failed(in_l1.missing.len() + keys.len() - n);
                    return Err(refusal.into());
                }
                Err(Unserved {
                    key: Ok(name),
                    lookup,
                }) => match (name, lookup) {
                    (_, Lookup::Fresh(value)) => {
                        in_l1
                            .found
                            .extend(typed(value.value).map(|value| (key.clone(), value)));
                    }
                    (name, Lookup::Aging(due)) if due.phase == Phase::Due => {
                        let value = typed(due.value.value.clone());
                        in_l1.found.extend(value.map(|value| (key.clone(), value)));
                        in_l1.due.push((key, name, due));
                    }
                    (name, _) => in_l1.missing.push((key, name)),
                },
            }
        }
        Ok(in_l1)
    }

    /// Requests that share a loader.
    fn requests<Q, F, Fut>(
        &self,
        keys: Vec<Q>,
        names: Vec<Key>,
        loader: F,
    ) -> Vec<Request<Read, Load>>
    where
        Q: Clone + Eq + Hash + Send + Sync + 'static,
        F: FnOnce(Vec<Q>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output: LoadManyResult<Q, V>> + Send + 'static,
    {
        let batch = BatchLoad::new(
            self.policy.clone(),
            load_parts(move |part| keys[part].clone(), loader),
        );
        let slots: Vec<_> = (0..names.len()).map(|number| batch.slot(number)).collect();
        let request = |(name, slot)| Read::with_load(&self.policy, name, LoaderCall::Batch(slot));
        names.into_iter().zip(slots).map(request).collect()
    }
}

/// The answers of L1 for many keys. A key that the caller gives twice has two lookups, which share
/// one load.
struct InL1<'k, Q, V> {
    found: HashMap<Q, Arc<V>>,
    /// Found, and to be reloaded.
    due: Vec<(&'k Q, Key, Aging<CachedValue>)>,
    missing: Vec<(&'k Q, Key)>,
}

fn in_chunks<I>(items: Vec<I>) -> impl Iterator<Item = Vec<I>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<I> = items.by_ref().take(AT_ONCE).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Lets a loader of keys load the parts of a batch, in the span of the caller that begins the
/// batch.
pub(super) fn load_parts<V, Q, F, Fut>(
    key: impl Fn(usize) -> Q + Send + Sync + 'static,
    loader: F,
) -> LoadParts
where
    V: Value,
    Q: Clone + Eq + Hash + Send + Sync + 'static,
    F: FnOnce(Vec<Q>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: LoadManyResult<Q, V>> + Send + 'static,
{
    let span = Span::current();
    let loader = Mutex::new(loader); // only to be cloned, so that it need not be `Sync`
    Box::new(move |parts| {
        let loader = loader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // Several, if keys are equal whose names are not.
        let mut of_key: HashMap<Q, Vec<usize>> = HashMap::with_capacity(parts.len());
        parts
            .into_iter()
            .for_each(|part| of_key.entry(key(part)).or_default().push(part));
        let loading = async move {
            let loaded = loader(of_key.keys().cloned().collect()).await.into_loaded();
            let of_key = |(key, loaded): (Q, Loaded<V>)| {
                let parts = of_key.get(&key).map_or(&[][..], Vec::as_slice);
                let value = CachedValue::from(loaded);
                parts
                    .iter()
                    .map(|part| (*part, value.clone()))
                    .collect::<Vec<_>>()
            };
            Ok(loaded.map_err(SharedError::new)?.flat_map(of_key).collect())
        };
        Box::pin(loading.instrument(span.clone()))
    })
}
