//! Processes whose clock is moved by hand, on a store in memory: values grow old while a test
//! watches.

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
use larder_ttl::PolicyBuilder;

use super::{
    calls::Items,
    policy::{MINUTE, builder_of},
};

/// A server in memory, and the clock that it shares with its processes.
pub(crate) struct Aging {
    pub(crate) server: MemoryServer,
    clock: Clock,
    hand: ManualClock,
}

impl Aging {
    pub(crate) fn new() -> Self {
        let (clock, hand) = Clock::manual();
        Self {
            server: MemoryServer::new(clock.clone()),
            clock,
            hand,
        }
    }

    /// Begins a process on this server.
    pub(crate) fn builder(&self, policy: &PolicyBuilder) -> LarderBuilder {
        self.builder_on(Arc::new(self.server.connect()), policy)
    }

    /// Begins a process that reaches the server by a store of the test's own.
    pub(crate) fn builder_on(
        &self,
        remote: Arc<dyn RemoteStore>,
        policy: &PolicyBuilder,
    ) -> LarderBuilder {
        self.local_builder(policy).remote_store(remote)
    }

    fn local_builder(&self, policy: &PolicyBuilder) -> LarderBuilder {
        builder_of(std::slice::from_ref(policy)).clock(self.clock.clone())
    }

    pub(crate) async fn larder(&self, policy: &PolicyBuilder) -> Larder {
        self.builder(policy).build().await.unwrap()
    }

    pub(crate) async fn cache(&self, policy: &PolicyBuilder) -> Items {
        self.larder(policy).await.cache("item").unwrap()
    }

    /// A process that reaches the server by a store of the test's own.
    pub(crate) async fn cache_on(
        &self,
        remote: Arc<dyn RemoteStore>,
        policy: &PolicyBuilder,
    ) -> Items {
        self.builder_on(remote, policy)
            .build()
            .await
            .unwrap()
            .cache("item")
            .unwrap()
    }

    /// A process without L2.
    pub(crate) async fn local(&self, policy: &PolicyBuilder) -> Items {
        self.local_larder(policy).await.cache("item").unwrap()
    }

    pub(crate) async fn local_larder(&self, policy: &PolicyBuilder) -> Larder {
        self.local_builder(policy).build().await.unwrap()
    }

    /// A process with L2 or without.
    pub(crate) async fn cache_in(&self, has_l2: bool, policy: &PolicyBuilder) -> Items {
        if has_l2 {
            self.cache(policy).await
        } else {
            self.local(policy).await
        }
    }

    pub(crate) async fn larder_in(&self, has_l2: bool, policy: &PolicyBuilder) -> Larder {
        if has_l2 {
            self.larder(policy).await
        } else {
            self.local_larder(policy).await
        }
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
        Self {
            gate: Gate::opened(),
            began: Arc::default(),
        }
    }

    pub(crate) fn loads(&self) -> usize {
        self.began.load(Ordering::SeqCst)
    }

    async fn ask(&self) {
        self.began.fetch_add(1, Ordering::SeqCst);
        self.gate.pass().await;
    }

    pub(crate) async fn read(
        &self,
        cache: &Items,
        key: &str,
        loaded: &str,
    ) -> Result<String, Error> {
        let (source, loaded) = (self.clone(), loaded.to_owned());
        let loader = || async move {
            source.ask().await;
            Ok::<_, Infallible>(loaded)
        };
        cache
            .get_or_load(key, loader)
            .await
            .map(|value| (*value).clone())
    }

    pub(crate) async fn fail(&self, cache: &Items, key: &str) -> Result<String, Error> {
        let source = self.clone();
        let loader = || async move {
            source.ask().await;
            Err::<String, _>(io::Error::other("the database is down"))
        };
        cache
            .get_or_load(key, loader)
            .await
            .map(|value| (*value).clone())
    }

    /// A reload that finds the value unchanged; it says what it was shown.
    pub(crate) async fn keep(
        &self,
        cache: &Items,
        key: &str,
    ) -> (Option<String>, Result<String, Error>) {
        let (source, shown) = (self.clone(), Arc::new(std::sync::Mutex::new(None)));
        let seen = shown.clone();
        let loader = |previous: Option<Arc<String>>| async move {
            source.ask().await;
            *seen.lock().unwrap() = previous.map(|value| (*value).clone());
            Ok::<_, Infallible>(Loaded::<String>::not_modified())
        };
        let answer = cache
            .get_or_revalidate(key, loader)
            .await
            .map(|value| (*value).clone());
        let shown = shown.lock().unwrap().clone();
        (shown, answer)
    }
}
