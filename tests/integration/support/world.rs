use std::sync::Arc;

use larder::{Cache, CacheKey, Larder, LarderBuilder, Value};
use larder_core::RemoteStore;
use larder_redis::{Coherence, RedisConfig, RedisStore};
use larder_testkit::{Proxy, RedisServer};
use larder_ttl::PolicyBuilder;
use tokio::time::Instant;

use super::{
    calls::{Items, Numbers, get},
    policy::{builder, builder_of},
    wait::BOUND,
};

/// A server, and as many larders on it as a test wants: each stands for a process.
pub(crate) struct World {
    pub(crate) server: RedisServer,
    coherence: Coherence,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self {
            server: RedisServer::start().await.unwrap(),
            coherence: Coherence::Auto,
        }
    }

    /// A world whose server refuses tracking, and whose processes all know that.
    pub(crate) async fn without_tracking() -> Self {
        Self {
            coherence: Coherence::Channel,
            ..Self::refusing(&["-client|tracking"]).await
        }
    }

    /// A world whose server refuses these commands.
    pub(crate) async fn refusing(commands: &[&str]) -> Self {
        let server = RedisServer::builder().refusing(commands);
        Self {
            server: server.start().await.unwrap(),
            coherence: Coherence::Auto,
        }
    }

    /// A way to the server that a test can cut or hold up.
    pub(crate) async fn proxy(&self) -> Proxy {
        Proxy::start(&self.server.addr()).await.unwrap()
    }

    /// How often the server has run these commands, together.
    pub(crate) async fn calls(&self, commands: &[&str]) -> u64 {
        let stats = self.server.command(&["INFO", "commandstats"]).await;
        let stats = stats.unwrap().text().unwrap();
        let run = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse::<u64>().ok()?;
            commands.contains(&name).then_some(calls)
        };
        stats.lines().filter_map(run).sum()
    }

    /// With as many lanes on every machine.
    pub(crate) fn config(&self) -> RedisConfig {
        RedisConfig::new(self.server.url())
            .lanes(2)
            .coherence(self.coherence)
    }

    pub(crate) async fn larder(&self) -> Larder {
        builder().redis_config(self.config()).build().await.unwrap()
    }

    /// A process with these policies.
    pub(crate) async fn larder_of(&self, policies: &[PolicyBuilder]) -> Larder {
        builder_of(policies)
            .redis_config(self.config())
            .build()
            .await
            .unwrap()
    }

    /// The cache `item` of a process with this policy alone.
    pub(crate) async fn cache(&self, policy: &PolicyBuilder) -> Items {
        self.cache_by(policy).await
    }

    /// Like [`cache`](Self::cache), with keys of any type.
    pub(crate) async fn cache_by<K: CacheKey + 'static>(
        &self,
        policy: &PolicyBuilder,
    ) -> Cache<K, String> {
        let policies = std::slice::from_ref(policy);
        cache_of(builder_of(policies).redis_config(self.config())).await
    }

    /// The cache `item` of a process of its own.
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

    /// The value in L2, as a foreign program sees it.
    pub(crate) async fn l2(&self, key: &str) -> Option<String> {
        self.server.command(&["GET", key]).await.unwrap().text()
    }
}

/// The cache `item` of a process.
pub(crate) async fn cache_of<K, V>(process: LarderBuilder) -> Cache<K, V>
where
    K: CacheKey + 'static,
    V: Value,
{
    process.build().await.unwrap().cache("item").unwrap()
}

/// A process and its cache `item`.
pub(crate) async fn process_of(process: LarderBuilder) -> (Larder, Items) {
    let larder = process.build().await.unwrap();
    let items = larder.cache("item").unwrap();
    (larder, items)
}

/// A cache on a store of the test's own.
pub(crate) async fn cache_on(store: Arc<dyn RemoteStore>, policy: &PolicyBuilder) -> Items {
    cache_of(builder_of(std::slice::from_ref(policy)).remote_store(store)).await
}

/// A cache without L2.
pub(crate) async fn local(policy: &PolicyBuilder) -> Items {
    cache_of(builder_of(std::slice::from_ref(policy))).await
}

/// Neither L2 nor any of these caches has the key.
pub(crate) async fn nowhere(world: &World, caches: &[&Items], key: &str) {
    assert_eq!(world.l2(&format!("item:{key}")).await, None);
    for cache in caches {
        assert_eq!(get(cache, key).await, None);
    }
}

/// Waits until the server has run so many claims.
pub(crate) async fn waits_for_the_lease(world: &World, key: &str, claims: u64) {
    let give_up = Instant::now() + BOUND;
    loop {
        let evals = scripts_run(world).await;
        if evals >= claims {
            return;
        }
        assert!(
            Instant::now() < give_up,
            "nobody claims {key}: {evals} scripts"
        );
        tokio::task::yield_now().await;
    }
}

/// How many scripts the server has run.
pub(crate) async fn scripts_run(world: &World) -> u64 {
    world.calls(&["evalsha", "eval"]).await
}
