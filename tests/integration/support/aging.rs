//! Processes whose clock is moved by hand, on a store in memory: values grow old while a test watches.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{Clock, Error, Larder, LarderBuilder, Loaded, ManualClock};
use larder_core::{MemoryServer, RemoteStore};
use larder_testkit::Gate;

use super::world::{Items, builder};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// A server in memory, and the clock that it shares with its processes.
pub(crate) struct Aging {
    pub(crate) server: MemoryServer,
    clock: Clock,
    hand: ManualClock,
}

impl Aging {
    pub(crate) fn new() -> Self {
        let (clock, hand) = Clock::manual();
        Self { server: MemoryServer::new(clock.clone()), clock, hand }
    }

    /// A process on this server, to be built.
    pub(crate) fn builder(&self) -> LarderBuilder {
        builder().remote_store(Arc::new(self.server.connect())).clock(self.clock.clone())
    }

    pub(crate) async fn larder(&self) -> Larder {
        self.builder().build().await.unwrap()
    }

    pub(crate) async fn cache(&self, row: &str) -> Items {
        self.larder().await.cache(row).unwrap()
    }

    pub(crate) async fn cache_on(&self, remote: Arc<dyn RemoteStore>, row: &str) -> Items {
        let builder = builder().remote_store(remote).clock(self.clock.clone());
        builder.build().await.unwrap().cache(row).unwrap()
    }

    /// A process that has no L2.
    pub(crate) async fn local(&self, row: &str) -> Items {
        self.local_larder().await.cache(row).unwrap()
    }

    pub(crate) async fn local_larder(&self) -> Larder {
        builder().clock(self.clock.clone()).build().await.unwrap()
    }

    pub(crate) fn advance(&self, minutes: u32) {
        self.advance_by(minutes * MINUTE);
    }

    pub(crate) fn advance_by(&self, time: Duration) {
        self.hand.advance(time);
    }
}

/// A database that says what it is told, and counts how often it is asked.
#[derive(Clone, Default)]
pub(crate) struct Source {
    /// Loads wait here after they have begun.
    pub(crate) gate: Gate,
    began: Arc<AtomicUsize>,
}

impl Source {
    /// One whose loads wait.
    pub(crate) fn gated() -> Self {
        Self::default()
    }

    /// One whose loads are quick.
    pub(crate) fn open() -> Self {
        Self { gate: Gate::opened(), began: Arc::default() }
    }

    pub(crate) fn loads(&self) -> usize {
        self.began.load(Ordering::SeqCst)
    }

    async fn ask(&self) {
        self.began.fetch_add(1, Ordering::SeqCst);
        self.gate.pass().await;
    }

    pub(crate) async fn read(&self, cache: &Items, key: &str, loaded: &str) -> Result<String, Error> {
        let (source, loaded) = (self.clone(), loaded.to_owned());
        let loader = || async move {
            source.ask().await;
            Ok::<_, Infallible>(loaded)
        };
        cache.get_or_load(key, loader).await.map(|value| (*value).clone())
    }

    pub(crate) async fn fail(&self, cache: &Items, key: &str) -> Result<String, Error> {
        let source = self.clone();
        let loader = || async move {
            source.ask().await;
            Err::<String, _>(io::Error::other("the database is down"))
        };
        cache.get_or_load(key, loader).await.map(|value| (*value).clone())
    }

    /// A reload that finds the value unchanged; it says what it was shown.
    pub(crate) async fn keep(&self, cache: &Items, key: &str) -> (Option<String>, Result<String, Error>) {
        let (source, shown) = (self.clone(), Arc::new(std::sync::Mutex::new(None)));
        let seen = shown.clone();
        let loader = |previous: Option<Arc<String>>| async move {
            source.ask().await;
            *seen.lock().unwrap() = previous.map(|value| (*value).clone());
            Ok::<_, Infallible>(Loaded::<String>::not_modified())
        };
        let answer = cache.get_or_revalidate(key, loader).await.map(|value| (*value).clone());
        let shown = shown.lock().unwrap().clone();
        (shown, answer)
    }
}
