use std::{convert::Infallible, sync::Arc, task::Poll, time::Duration};

use larder::{Cache, Larder, LarderBuilder, Loaded, TtlTable};
use larder_core::RemoteStore;
use larder_redis::{RedisConfig, RedisStore};
use larder_testkit::{Gate, RedisServer, eventually};
use tokio::{task::JoinHandle, time::Instant};

/// A cache of texts by names, which most tests use.
pub(crate) type Items = Cache<String, String>;

/// A cache of texts by numbers.
pub(crate) type Numbers = Cache<u64, String>;

/// A cache of texts by a number and a name.
pub(crate) type Pairs = Cache<(u64, String), String>;

/// No condition is waited for longer than this.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A server, and as many larders on it as a test wants: each stands for a process.
pub(crate) struct World {
    pub(crate) server: RedisServer,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self { server: RedisServer::start().await.unwrap() }
    }

    /// A world whose server refuses tracking.
    pub(crate) async fn without_tracking() -> Self {
        let refuse = ["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-client|tracking"];
        Self { server: RedisServer::builder().args(&refuse).start().await.unwrap() }
    }

    /// With as many lanes on every machine.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new(self.server.url()).lanes(2)
    }

    pub(crate) async fn larder(&self) -> Larder {
        builder().redis_config(self.config()).build().await.unwrap()
    }

    /// The cache of the row `item` in a process of its own.
    pub(crate) async fn items(&self) -> Items {
        self.larder().await.cache("item").unwrap()
    }

    /// Like [`items`](Self::items), by numbers.
    pub(crate) async fn numbers(&self) -> Numbers {
        self.larder().await.cache("item").unwrap()
    }

    pub(crate) async fn store(&self) -> Arc<dyn RemoteStore> {
        Arc::new(RedisStore::connect(self.config()).await.unwrap())
    }

    /// The store of a process whose keys all take one lane.
    pub(crate) async fn one_lane(&self) -> Arc<dyn RemoteStore> {
        Arc::new(RedisStore::connect(self.config().lanes(1)).await.unwrap())
    }

    /// What is in L2, as a foreign program sees it.
    pub(crate) async fn l2(&self, key: &str) -> Option<String> {
        self.server.command(&["GET", key]).await.unwrap().text()
    }
}

pub(crate) fn builder() -> LarderBuilder {
    Larder::builder().ttl_table(TtlTable::from_toml(larder_tests::TABLE).unwrap())
}

/// A loader that returns this at once.
pub(crate) fn value(value: &str) -> impl Future<Output = Result<String, Infallible>> + Send + use<> {
    std::future::ready(Ok(value.to_owned()))
}

pub(crate) async fn load(cache: &Items, key: &str, loaded: &str) -> String {
    let loaded = loaded.to_owned();
    let served = cache.get_or_load(key, move || value(&loaded)).await.unwrap();
    (*served).clone()
}

/// Starts a load that reads its value and then waits at the gate before it returns it.
pub(crate) fn slow_load(
    cache: &Items,
    key: &str,
    loaded: &str,
    gate: &Gate,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, key, loaded, gate) = (cache.clone(), key.to_owned(), loaded.to_owned(), gate.clone());
    tokio::spawn(async move {
        let loader = move || async move {
            gate.pass().await;
            Ok::<_, Infallible>(loaded)
        };
        cache.get_or_load(key, loader).await
    })
}

/// A load of a value with this tag.
pub(crate) async fn load_tagged(cache: &Items, key: &str, loaded: &str, tag: &str) -> String {
    let (loaded, tag) = (loaded.to_owned(), tag.to_owned());
    let loader = || async { Ok::<_, Infallible>(Loaded::new(loaded).tag(tag)) };
    (*cache.get_or_load(key, loader).await.unwrap()).clone()
}

/// Starts a load of a value with this tag, see [`slow_load`].
pub(crate) fn slow_tagged_load(
    cache: &Items,
    key: &str,
    loaded: &str,
    tag: &str,
    gate: &Gate,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, key, gate) = (cache.clone(), key.to_owned(), gate.clone());
    let (loaded, tag) = (loaded.to_owned(), tag.to_owned());
    tokio::spawn(async move {
        let loader = move || async move {
            gate.pass().await;
            Ok::<_, Infallible>(Loaded::new(loaded).tag(tag))
        };
        cache.get_or_load(key, loader).await
    })
}

pub(crate) async fn get(cache: &Items, key: &str) -> Option<String> {
    cache.get(key).await.unwrap().map(|value| (*value).clone())
}

/// Waits until a `get` says this.
pub(crate) async fn gets(cache: &Items, key: &str, expected: Option<&str>) {
    let give_up = Instant::now() + BOUND;
    loop {
        let got = get(cache, key).await;
        if got.as_deref() == expected {
            return;
        }
        assert!(Instant::now() < give_up, "{key} is {got:?}, not {expected:?}");
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn holds(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually(BOUND, condition).await, "still not so: {what}");
}

/// Starts a call, and returns when it has done all that it does before it waits for anything: it has joined a flight.
/// A busy machine may leave it nothing to wait for, so what must not end yet is held by a gate, not by this.
pub(crate) fn start<T: Send + 'static>(call: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    let mut call = Box::pin(call);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match call.as_mut().poll(&mut context) {
        Poll::Ready(ended) => tokio::spawn(std::future::ready(ended)),
        Poll::Pending => tokio::spawn(call),
    }
}

/// Starts a `get_or_load`, see [`start`].
pub(crate) fn start_load(
    cache: &Items,
    key: &'static str,
    loaded: &str,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, loaded) = (cache.clone(), loaded.to_owned());
    start(async move { cache.get_or_load(key, move || value(&loaded)).await })
}

/// Starts a write-through that waits at the gate before it returns, as a slow database would.
pub(crate) fn slow_write(
    cache: &Items,
    written: &str,
    gate: &Gate,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, written, gate) = (cache.clone(), written.to_owned(), gate.clone());
    tokio::spawn(async move {
        let writer = || async move {
            gate.pass().await;
            Ok::<_, Infallible>(written)
        };
        cache.write_through("k", writer).await
    })
}

/// Neither L2 nor any of these caches has the key.
pub(crate) async fn nowhere(world: &World, caches: &[&Items], key: &str) {
    assert_eq!(world.l2(&format!("item:{key}")).await, None);
    for cache in caches {
        assert_eq!(get(cache, key).await, None);
    }
}

/// Waits until the server has run so many claims.
pub(crate) async fn waits_for_the_lease(world: &World, key: &str, claims: i64) {
    let give_up = Instant::now() + BOUND;
    loop {
        let stats = world.server.command(&["INFO", "commandstats"]).await.unwrap().text().unwrap();
        let evals = ["evalsha", "eval"]
            .iter()
            .filter_map(|name| stats.split(&format!("cmdstat_{name}:calls=")).nth(1))
            .filter_map(|rest| rest.split(',').next()?.parse::<i64>().ok())
            .sum::<i64>();
        if evals >= claims {
            return;
        }
        assert!(Instant::now() < give_up, "nobody claims {key}: {evals} scripts");
        tokio::task::yield_now().await;
    }
}
