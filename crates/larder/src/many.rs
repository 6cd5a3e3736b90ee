use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::join_all;
use larder_core::Key;
use tracing::{Instrument, Span};

use crate::{
    Cache, CacheKey, Error, LoadManyResult, Loaded, SharedError,
    policy::L1Entry,
    read::{
        Loader, Read,
        batch::{BatchLoad, LoadParts},
        further::Unserved,
        present,
    },
    runtime::{in_runtime, in_task},
    stats::Count,
    value::{CachedValue, Value, typed},
    write::write,
};

/// How many keys are looked up, loaded or written at once. More of them are worked off in chunks.
const AT_ONCE: usize = 1000;

/// Many keys in one call. `K`'s `Eq` and `Hash` should agree with its text as a key. What is said of one key in the calls for
/// one holds for each of them by itself.
impl<T: Value> Cache<T> {
    /// Returns the values that a level has, without loading, as [`get`](Self::get) does. What L1 does not have is asked of
    /// L2 in one round trip for every thousand keys.
    ///
    /// # Consistency
    /// Each value by itself is as [`get`](Self::get) would return it; together they are no snapshot.
    ///
    /// # Errors
    /// [`Error::Key`] before anything is asked. With Redis out of reach there is what L1 has.
    pub async fn get_many<K>(&self, keys: &[K]) -> Result<HashMap<K, Arc<T>>, Error>
    where
        K: CacheKey + Clone + Eq + Hash,
    {
        let InL1 { mut found, missing, .. } = self.look_many(keys)?;
        if !missing.is_empty() {
            in_runtime()?;
        }
        for missing in missing.chunks(AT_ONCE) {
            let look = |name: &Key| (name.clone(), Read::new(self.policy.clone(), name.clone(), None));
            let looks = missing.iter().map(|(_, name)| look(name)).collect();
            // Boxed, because it is large.
            let values = Box::pin(self.policy.lock.get_many(looks)).await;
            for ((key, name), value) in missing.iter().zip(values) {
                match value.transpose()? {
                    Some(CachedValue { value, .. }) => {
                        found.extend(typed(value).map(|value| ((*key).clone(), value)));
                    }
                    None => {
                        self.policy.count(Count::Miss);
                        self.policy.reporter.miss(name);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the values from L1, else from L2, else from the loader, which is called once with all keys that neither level
    /// has and nobody else loads. What it returns goes into both levels; a key that it leaves out has no value, and
    /// [`negative_ttl`](crate::Policy::negative_ttl) says how long that is remembered. Such keys are not in the result.
    ///
    /// Each key has its own lease: of callers that want overlapping keys, in however many processes, each loads what the
    /// others don't, and waits for the rest. Should another one's load come to nothing, or be outdated by an
    /// invalidation, this one loads the key after all: then a clone of the loader is called once more, for all such keys
    /// that come at a time. It is also called once for every thousand keys that are missing. One such call is one of the policy's
    /// [`max_loads`](crate::Policy::max_loads).
    ///
    /// ```
    /// # use std::{collections::HashMap, io, sync::Arc};
    /// # use larder::{Cache, Error};
    /// # async fn find_many(ids: Vec<u64>) -> io::Result<HashMap<u64, String>> { Ok(HashMap::new()) }
    /// # async fn example(names: Cache<String>) -> Result<(), Error> {
    /// let found: HashMap<u64, Arc<String>> = names.get_or_load_many(&[1, 2, 3], find_many).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Consistency
    /// As for [`get_many`](Self::get_many).
    ///
    /// # Cancellation
    /// A caller that is dropped leaves the loads to those who share them, as with [`get_or_load`](Self::get_or_load).
    ///
    /// # Errors
    /// As for [`get_or_load`](Self::get_or_load), but for `Absent`, if a key has no value and no stale one to serve: then the
    /// whole call fails, and what it did find or load is cached.
    pub async fn get_or_load_many<K, F, Fut>(
        &self,
        keys: &[K],
        loader: F,
    ) -> Result<HashMap<K, Arc<T>>, Error>
    where
        K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output: LoadManyResult<K, T>> + Send + 'static,
    {
        let InL1 { mut found, due, missing } = self.look_many(keys)?;
        let runtime = in_runtime();
        if runtime.is_ok() {
            for due in in_chunks(due) {
                let (keys, due): (Vec<K>, Vec<_>) =
                    due.into_iter().map(|(key, name, due)| (key.clone(), (name, due))).unzip();
                let (names, due): (Vec<Key>, Vec<_>) = due.into_iter().unzip();
                for ((name, read), due) in self.reads(keys, names, loader.clone()).into_iter().zip(due) {
                    self.policy.lock.reload(&name, present(due), read);
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        runtime?;
        for missing in in_chunks(missing) {
            let (keys, names): (Vec<K>, Vec<Key>) =
                missing.into_iter().map(|(key, name)| (key.clone(), name)).unzip();
            let first = names.first().cloned();
            let reads = self.reads(keys.clone(), names, loader.clone());
            let policy = self.policy.clone();
            let loaded = in_task(first, async move { policy.lock.get_or_load_many(reads).await }).await?;
            for (key, outcome) in keys.into_iter().zip(loaded) {
                found.extend(typed(outcome?.value).map(|value| (key, value)));
            }
        }
        Ok(found)
    }

    /// Puts values into both levels, each as [`insert`](Self::insert) does.
    ///
    /// # Consistency
    /// Each value by itself is put in atomically; a reader may see one and not yet the next one. Of a key that is there
    /// twice either value may stay, or none.
    ///
    /// # Cancellation
    /// What has begun runs to its end; what has not, which is what follows the first thousand or some, is not put in.
    ///
    /// # Errors
    /// As for [`insert`](Self::insert): those about a key or value before anything is sent; else the first one, after all
    /// others are done.
    pub async fn insert_many<K: CacheKey, U: Into<Loaded<T>>>(
        &self,
        entries: impl IntoIterator<Item = (K, U)>,
    ) -> Result<(), Error> {
        let insertable = |(key, value): (K, U)| self.insertable(&key, value);
        let entries = entries.into_iter().map(insertable).collect::<Result<Vec<_>, Error>>()?;
        let mut done = Ok(());
        for entries in in_chunks(entries) {
            let writes = entries.into_iter().map(|(key, found)| {
                let writer = Box::pin(std::future::ready(Ok(((), Some(found)))));
                write(self.process.clone(), self.policy.clone(), key, writer)
            });
            done = join_all(writes).await.into_iter().fold(done, Result::and);
        }
        done
    }

    /// Removes the keys' values from every level of every process, each as [`invalidate`](Self::invalidate) does. For keys
    /// of several policies see [`Larder::invalidate`](crate::Larder::invalidate).
    ///
    /// # Consistency
    /// Each key is invalidated atomically; a reader may see one gone and the next one not yet.
    ///
    /// # Errors
    /// [`Error::Key`] before anything is done; [`Error::Store`] if Redis refused one, after all others are done.
    pub async fn invalidate_many<K: CacheKey>(&self, keys: &[K]) -> Result<(), Error> {
        let keys = keys.iter().map(|key| self.owned_key(key)).collect::<Result<Vec<_>, Error>>()?;
        self.invalidate_owned(keys).await
    }

    /// Looks into L1.
    fn look_many<'k, K: CacheKey + Clone + Eq + Hash>(&self, keys: &'k [K]) -> Result<InL1<'k, K, T>, Error> {
        let mut in_l1 =
            InL1 { found: HashMap::with_capacity(keys.len()), due: Vec::new(), missing: Vec::new() };
        for key in keys {
            match self.look_or(key, Unserved::new) {
                Ok(value) => in_l1.found.extend(value.map(|value| (key.clone(), value))),
                Err(Unserved::Due(name, due)) => {
                    in_l1.found.extend(typed(due.value.clone()).map(|value| (key.clone(), value)));
                    in_l1.due.push((key, name, due));
                }
                Err(Unserved::Miss(name)) => in_l1.missing.push((key, name)),
                Err(Unserved::Refused(refusal)) => return Err(refusal.into()),
            }
        }
        Ok(in_l1)
    }

    /// Reads that share a loader.
    fn reads<K, F, Fut>(&self, keys: Vec<K>, names: Vec<Key>, loader: F) -> Vec<(Key, Read)>
    where
        K: Clone + Eq + Hash + Send + Sync + 'static,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output: LoadManyResult<K, T>> + Send + 'static,
    {
        let batch = BatchLoad::new(self.policy.clone(), load_parts(move |part| keys[part].clone(), loader));
        let slots: Vec<_> = (0..names.len()).map(|part| batch.slot(part)).collect();
        let read = |(name, slot): (Key, _)| {
            (name.clone(), Read::new(self.policy.clone(), name, Some(Loader::Batch(slot))))
        };
        names.into_iter().zip(slots).map(read).collect()
    }
}

/// What L1 says of many keys. One that was asked for twice is looked for twice; a load of it is shared like any other.
struct InL1<'k, K, T> {
    found: HashMap<K, Arc<T>>,
    /// Found, and to be reloaded.
    due: Vec<(&'k K, Key, L1Entry)>,
    missing: Vec<(&'k K, Key)>,
}

fn in_chunks<I>(items: Vec<I>) -> impl Iterator<Item = Vec<I>> {
    let mut items = items.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<I> = items.by_ref().take(AT_ONCE).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Has a loader that knows keys load parts.
pub(crate) fn load_parts<T, K, F, Fut>(
    key: impl Fn(usize) -> K + Send + Sync + 'static,
    loader: F,
) -> LoadParts
where
    T: Value,
    K: Clone + Eq + Hash + Send + Sync + 'static,
    F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output: LoadManyResult<K, T>> + Send + 'static,
{
    let span = Span::current();
    let loader = Mutex::new(loader); // only to be cloned, so that it need not be `Sync`
    Box::new(move |parts| {
        let loader = loader.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Several, if keys are equal whose names are not.
        let mut of_key: HashMap<K, Vec<usize>> = HashMap::with_capacity(parts.len());
        parts.into_iter().for_each(|part| of_key.entry(key(part)).or_default().push(part));
        let loading = async move {
            let loaded = loader(of_key.keys().cloned().collect()).await.into_loaded();
            let loaded = loaded.map_err(SharedError::new)?;
            let of_key = |(key, loaded): (K, Loaded<T>)| {
                let parts = of_key.get(&key).map_or(&[][..], Vec::as_slice);
                let found = CachedValue::from(loaded);
                parts.iter().map(|part| (*part, found.clone())).collect::<Vec<(usize, CachedValue)>>()
            };
            Ok(loaded.flat_map(of_key).collect())
        };
        Box::pin(loading.instrument(span.clone()))
    })
}
