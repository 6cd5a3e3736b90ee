//! The five things that the stampede lock asks of its caller, and the types in which they speak.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{Digest, Generations, Key, Moment, Phase, Stamp, StoreError, Stored, TagStamp};

use super::write_back::{Destination, Refusal, WrittenBack};
use crate::{Cycle, TagEpochs};

/// The result of a look into the levels.
#[derive(Clone, Debug)]
pub enum Lookup<V> {
    /// The value may be served at once.
    Fresh(V),
    /// The value is due for a reload, or stale.
    Aging(Aging<V>),
    /// There is no value; or there are bytes with this digest that cannot be used, and that a load
    /// may replace.
    Absent(Option<Digest>),
    /// The remote store did not answer.
    Unreachable(CutOff),
}

/// A question that the remote store did not answer.
#[derive(Clone, Debug)]
pub struct CutOff {
    /// The store's own error.
    pub error: StoreError,
    /// The generations from before it was asked.
    pub asked: Stamp,
}

/// A value that is due or stale, as it was when it was looked at.
#[derive(Clone, Debug)]
pub struct Aging<V> {
    /// The value.
    pub value: V,
    /// [`Phase::Due`]: it is served at once. [`Phase::Stale`]: only in place of a load.
    pub phase: Phase,
    /// The generations from before it was read.
    pub stamp: Stamp,
    /// Its tags, if it has any.
    pub tags: Option<Arc<TagStamp>>,
    /// The digest of its bytes, if it was read from the remote store: a load replaces exactly
    /// these.
    pub digest: Option<Digest>,
    /// When the remote store has let go of it at the latest.
    pub ends: Moment,
}

impl<V> Aging<V> {
    /// Hands it out in place of a load.
    pub(crate) fn serve<R: Reader<Value = V>>(&self, key: &Key, reader: &R) -> V
    where
        V: Clone,
    {
        if self.phase == Phase::Stale {
            reader.observe(key, Event::ServedStale);
        }
        self.value.clone()
    }

    /// Tells whether nobody wrote or invalidated it since it was read.
    // P28 stale-only-while-current: judged by all its generations and tags
    pub(crate) fn is_current(&self, key: &Key, generations: &Generations) -> bool {
        generations.is_current(key.hash(), &self.stamp)
            && self.tags.as_ref().is_none_or(|tags| tags.is_current())
    }
}

/// One read, as its caller takes part in it. A clone serves a task that shares the read.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
/// /// Takes text for fresh, and has everything else loaded anew.
/// #[derive(Clone)]
/// struct Text;
///
/// impl Reader for Text {
///     type Value = Arc<str>;
///
///     fn look(&self, _key: &Key) -> Lookup<Arc<str>> {
///         Lookup::Absent(None) // there is no local level
///     }
///
///     fn accept<'a>(
///         &'a self,
///         _key: &'a Key,
///         stored: Stored,
///         _ends: Moment,
///         _stamp: Stamp,
///     ) -> Accepting<'a, Arc<str>> {
///         Accepting::Done(match str::from_utf8(&stored.value) {
///             Ok(text) => Lookup::Fresh(text.into()),
///             Err(_) => Lookup::Absent(Some(Digest::of(&stored.value))),
///         })
///     }
///
///     fn observe(&self, key: &Key, event: Event<'_>) {
///         println!("{key}: {event:?}");
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let server = MemoryServer::new(Clock::system());
/// server.write("title:/", "Hello", None); // by another program
/// # let (lock, _pushes) = process::<Arc<str>, ()>(Arc::new(server.connect()));
/// let title = lock.get(&Key::from_stored_name("title:/"), &Text).await;
/// assert_eq!(title.as_deref(), Some("Hello"));
/// # }
/// ```
pub trait Reader: Clone + Send + Sync + 'static {
    /// The value that callers get: cheap to clone.
    type Value: Clone + Send + Sync + 'static;

    /// Looks into the local level, without waiting. The caller has looked there before, so a store
    /// that counts uses should not count this look.
    fn look(&self, key: &Key) -> Lookup<Self::Value>;

    /// Judges a value from the remote store, and keeps it in the local level under this stamp. The
    /// remote store has let go of it at `ends`, at the latest.
    fn accept<'a>(
        &'a self,
        key: &'a Key,
        stored: Stored,
        ends: Moment,
        stamp: Stamp,
    ) -> Accepting<'a, Self::Value>;

    /// Takes note of an event.
    fn observe(&self, key: &Key, event: Event<'_>);
}

/// The load that a [`Reader`] brings along.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/numbers.rs"));
/// /// Counts up from the stored number. A new number lives for an hour.
/// struct CountUp;
///
/// impl Loader for CountUp {
///     type Value = u64;
///     type Error = Arc<io::Error>;
///
///     fn load(
///         &mut self,
///         _key: &Key,
///         previous: Option<u64>,
///     ) -> BoxFuture<'static, Result<u64, Arc<io::Error>>> {
///         Box::pin(async move { Ok(previous.unwrap_or(0) + 1) })
///     }
///
///     async fn write_back(
///         &mut self,
///         _key: &Key,
///         number: &u64,
///         _epochs: TagEpochs,
///         to: Destination<'_>,
///     ) -> WrittenBack {
///         let Destination::Remote(commit) = to else {
///             return WrittenBack::DONE; // the remote store is out of reach, and there is no other
///         };
///         let text = number.to_string();
///         match commit.store(text.as_bytes(), Duration::from_secs(3600)).await {
///             Ok(committed) if committed.is_done() => WrittenBack::DONE,
///             Ok(_refused) => WrittenBack::Refused(Refusal::Lease),
///             Err(error) => WrittenBack::Failed(error),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MemoryServer::new(Clock::system());
/// # let (lock, _pushes) = process(Arc::new(server.connect()));
/// let key = Key::from_stored_name("visits:/");
/// server.write("visits:/", "many", None); // which is no number, and so is replaced
/// # let request = request(&key, Numbers, CountUp);
/// assert_eq!(lock.get_or_load(request).await?, 1);
/// assert_eq!(server.read("visits:/").as_deref(), Some(b"1".as_slice()));
/// # Ok(()) }
/// ```
pub trait Loader: Send + 'static {
    /// The reader's value.
    type Value: Clone + Send + Sync + 'static;
    /// The loader's error, shared by all who wait.
    type Error: Clone + Send + Sync + 'static;

    /// Runs the loader. Called at most once. `previous` is the value that the load is to replace,
    /// if there is one.
    fn load(
        &mut self,
        key: &Key,
        previous: Option<Self::Value>,
    ) -> BoxFuture<'static, Result<Self::Value, Self::Error>>;

    /// Puts the loaded value into the levels: into the remote one with the [`Commit`] that it is
    /// given, and then into the local one. `epochs` are from before the loader ran.
    ///
    /// [`Commit`]: super::write_back::Commit
    fn write_back(
        &mut self,
        key: &Key,
        value: &Self::Value,
        epochs: TagEpochs,
        to: Destination<'_>,
    ) -> impl Future<Output = WrittenBack> + Send;
}

/// The answer to [`Reader::accept`].
pub enum Accepting<'a, V> {
    /// It is judged.
    Done(Lookup<V>),
    /// The remote store must be asked for more.
    Asking(BoxFuture<'a, Lookup<V>>),
}

impl<V> fmt::Debug for Accepting<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done(_) => "Done",
            Self::Asking(_) => "Asking",
        })
    }
}

/// Something that happens to a read.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A stale value is served in place of a load.
    ServedStale,
    /// A call of the remote store failed.
    RemoteFailed(&'a StoreError),
    /// The read waits for another load of the key, so nobody should wait for its loader to be run.
    Waiting,
    /// The loaded value is kept nowhere: the key was written or invalidated during the load.
    Refused(Refusal),
    /// The load has no result.
    Failed {
        /// The reason.
        why: &'a Failure,
        /// How long the loader ran; zero if it was not begun.
        took: Duration,
    },
}

/// The reason why a load has no result, where it is not the loader's own error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The loader panicked.
    #[error("the loader panicked")]
    Panicked,
    /// The loader took longer than
    /// [`LoadLimits::load_timeout`](super::limits::LoadLimits::load_timeout), or the whole read
    /// took longer than all its limits.
    #[error("the load took longer than {0:?}: make it faster, or raise load_timeout")]
    TimedOut(Duration),
    /// All of [`LoadLimits::max_loads`](super::limits::LoadLimits::max_loads) loads were under way
    /// all this time, and this one was not begun.
    #[error("the load waited {0:?} for others to end: raise max_loads or max_wait")]
    Crowded(Duration),
    /// The load was asked for from inside a loader or a writer that it would wait for.
    #[error("a loader or writer would wait for itself: {0}")]
    Deadlock(Cycle),
    /// The remote store is out of reach, and the load was not begun, see
    /// [`LoadLimits::needs_remote`](super::limits::LoadLimits::needs_remote).
    #[error("the remote store is out of reach")]
    CutOff(#[source] StoreError),
    /// The task that ran the load is gone, as when the runtime shuts down.
    #[error("the load was given up: the runtime is shutting down")]
    Dropped,
}

/// The reason why a caller gets no value.
///
/// ```
/// # use std::io;
/// use larder_lock::{Failure, LoadError};
///
/// let failed: LoadError<io::Error> = LoadError::Loader(io::Error::other("the database is down"));
/// assert_eq!(failed.to_string(), "the load failed");
/// let panicked: LoadError<io::Error> = Failure::Panicked.into();
/// assert_eq!(panicked.to_string(), "the loader panicked");
/// ```
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// The loader's own error.
    #[error("the load failed")]
    Loader(#[source] E),
    /// The load has no result.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// The value for a caller, or the reason why it gets none.
pub type Outcome<V, E> = Result<V, LoadError<E>>;
