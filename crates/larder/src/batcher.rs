use std::{
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    Cache, CacheKey, Error, LoadManyResult,
    many::load_parts,
    read::{
        Loader,
        batch::{BatchLoad, BatchSlot, LoadParts},
        further::find_or_load,
    },
    runtime::{in_runtime, in_task},
    value::{Value, typed},
};

/// Makes one load of what concurrent callers want one by one, as a data loader does: keys that are missing within a short
/// window are loaded by one call. Cheap to clone; all clones are the same batcher.
///
/// The window begins with the first key that is missing. A hit does not wait for it. Otherwise each call is a
/// [`Cache::get_or_load`] by itself: with its own lease and time limits, which the window counts towards. What the loader
/// fails with is for the whole batch.
///
/// ```
/// # use std::{collections::HashMap, io, sync::Arc, time::Duration};
/// # use larder::{Batcher, Larder};
/// # async fn find_many(ids: Vec<u64>) -> io::Result<HashMap<u64, String>> {
/// #     Ok(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// # let names = Larder::builder().build().await?.cache::<String>("user_profile")?;
/// let names = Batcher::new(names, Duration::from_millis(1), find_many);
/// let (one, other) = tokio::join!(names.get_or_load(1), names.get_or_load(2)); // one call with both keys
/// assert_eq!((one?.as_str(), other?.as_str()), ("user 1", "user 2"));
/// # Ok(()) }
/// ```
pub struct Batcher<K, T: Value> {
    inner: Arc<Inner<K, T>>,
}

struct Inner<K, T: Value> {
    cache: Cache<T>,
    window: Duration,
    load: Box<dyn Fn(Keys<K>) -> LoadParts + Send + Sync>,
    /// The batch that still takes keys.
    open: Mutex<Option<Batch<K>>>,
}

struct Batch<K> {
    load: Arc<BatchLoad>,
    keys: Keys<K>,
    /// Undecided until the window is over or the batch is full.
    _window: BatchSlot,
}

type Keys<K> = Arc<Mutex<Vec<K>>>;

/// So many keys are loaded at once, at most.
const FULL: usize = 1000;

impl<K, T> Batcher<K, T>
where
    K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
    T: Value,
{
    /// Loads with this loader what the cache does not have, a batch for every window, or for every thousand keys. A key that
    /// the loader leaves out has no value.
    ///
    /// A window of one or two milliseconds catches what concurrent requests want at the same time; zero is the shortest that
    /// the runtime's timer has.
    pub fn new<F, Fut>(cache: Cache<T>, window: Duration, loader: F) -> Self
    where
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output: LoadManyResult<K, T>> + Send + 'static,
    {
        let load = move |keys: Keys<K>| {
            let key = move |part: usize| lock(&keys)[part].clone();
            load_parts(key, loader.clone())
        };
        Self { inner: Arc::new(Inner { cache, window, load: Box::new(load), open: Mutex::default() }) }
    }

    /// Returns the value from L1, else from L2, else from the loader, together with what others want.
    ///
    /// # Errors
    /// As for [`Cache::get_or_load`]; [`Error::Absent`] also if the loader leaves the key out.
    pub async fn get_or_load(&self, key: K) -> Result<Arc<T>, Error> {
        let found = self.find_or_load(key.clone()).await?;
        self.inner.cache.expect(&key, found)
    }

    /// The same for a value that may not exist.
    ///
    /// # Errors
    /// As for [`Cache::find_or_load`].
    pub async fn find_or_load(&self, key: K) -> Result<Option<Arc<T>>, Error> {
        match self.inner.cache.look(&key) {
            Ok(value) => Ok(value),
            Err(unserved) => {
                let (this, name) = (self.clone(), Some(self.inner.cache.policy.key(&key).to_key()));
                let further = async move {
                    let loader = || Loader::Batch(this.slot(key));
                    find_or_load(&this.inner.cache.policy, unserved, loader).await
                };
                in_runtime()?;
                Ok(typed(in_task(name, further).await??))
            }
        }
    }

    /// A place in the batch that is open.
    fn slot(&self, key: K) -> BatchSlot {
        let mut open = lock(&self.inner.open);
        let Batch { load, keys, .. } = open.get_or_insert_with(|| self.open());
        let slot = {
            let mut keys = lock(keys);
            keys.push(key);
            load.slot(keys.len() - 1)
        };
        let full = if slot.part() + 1 < FULL { None } else { open.take() };
        drop(open);
        drop(full); // which ends its window
        slot
    }

    fn open(&self) -> Batch<K> {
        let keys = Keys::default();
        let load = BatchLoad::new(self.inner.cache.policy.clone(), (self.inner.load)(keys.clone()));
        let window = load.slot(usize::MAX);
        let (time, closes) = (self.inner.window, Closes(self.inner.clone(), load.clone()));
        // A task of its own: whoever opened the batch may go. Who comes here is inside a runtime.
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            drop(closes);
        });
        Batch { load, keys, _window: window }
    }
}

/// Closes a batch, also if its runtime ends before the window does.
struct Closes<K, T: Value>(Arc<Inner<K, T>>, Arc<BatchLoad>);

impl<K, T: Value> Drop for Closes<K, T> {
    fn drop(&mut self) {
        let batch = lock(&self.0.open).take_if(|batch| Arc::ptr_eq(&batch.load, &self.1));
        drop(batch); // not under the lock: it may start the loader
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing done under these locks can panic half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K, T: Value> Clone for Batcher<K, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, T: Value> fmt::Debug for Batcher<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batcher")
            .field("cache", &self.inner.cache)
            .field("window", &self.inner.window)
            .finish_non_exhaustive()
    }
}
