//! What the benchmarks compare: larder, and the raw libraries below it, on the same keys and values.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot be set up should stop where it cannot"
)]

use std::{convert::Infallible, sync::Arc};

use deadpool_redis::redis::{AsyncCommands, Client, aio::MultiplexedConnection, cmd};
use futures_util::FutureExt;
use larder::{Cache, Larder, RedisConfig, TtlTable};
use larder_testkit::RedisServer;
use serde::{Deserialize, Serialize};

/// A value of about 300 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    id: u64,
    name: String,
    mail: String,
    about: String,
}

impl User {
    /// Makes the user with this number.
    pub fn new(id: u64) -> Self {
        let about = "likes caches that say what they promise, and promise what they keep; ".repeat(3);
        Self { id, name: format!("user {id}"), mail: format!("user.{id}@example.org"), about }
    }
}

/// How many keys there are.
pub const KEYS: u64 = 10_000;

const TABLE: &str = r#"
    [user_profile]
    prefix = "user"
    ttl = "1h"

    [remote]
    ttl = "1h"
    levels = "l2"
"#;

/// A sequence of keys, the same at every call: Zipf-distributed with exponent 0.99.
pub fn zipf(len: usize) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut total = 0.0;
    let sums: Vec<f64> = (1..=KEYS)
        .map(|rank| {
            #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
            let weight = 1.0 / (rank as f64).powf(0.99);
            total += weight;
            total
        })
        .collect();
    (0..len)
        .map(|_| {
            let at = random.f64() * total;
            sums.partition_point(|sum| *sum < at) as u64
        })
        .collect()
}

/// L1 of larder, and moka by itself, with the same entries.
#[derive(Debug)]
pub struct Local {
    /// larder's.
    pub cache: Cache<User>,
    /// moka's, with the same key texts.
    pub raw: moka::sync::Cache<String, Arc<User>>,
    /// The key texts, by number.
    pub texts: Vec<String>,
}

impl Local {
    /// Fills both; with a server, larder's entries are in L2 too.
    pub async fn new(server: Option<&RedisServer>) -> Self {
        let mut builder = Larder::builder().ttl_table(TtlTable::from_toml(TABLE).unwrap());
        if let Some(server) = server {
            builder = builder.redis(server.url());
        }
        let cache = builder.build().await.unwrap().cache("user_profile").unwrap();
        let raw = moka::sync::Cache::new(100_000);
        let texts: Vec<String> = (0..KEYS).map(|id| format!("user:{id}")).collect();
        for id in 0..KEYS {
            cache.get_or_load(id, move || async move { Ok::<_, Infallible>(User::new(id)) }).await.unwrap();
            raw.insert(texts[usize::try_from(id).unwrap()].clone(), Arc::new(User::new(id)));
        }
        Self { cache, raw, texts }
    }

    /// A hit in larder: its future is ready at once.
    #[inline]
    pub fn hit(&self, id: u64) -> Arc<User> {
        self.cache.get(id).now_or_never().unwrap().unwrap().unwrap()
    }

    /// A hit in moka.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "ids are small")]
    pub fn raw_hit(&self, id: u64) -> Arc<User> {
        self.raw.get(self.texts[id as usize].as_str()).unwrap()
    }
}

/// L2 through larder, and through the client by itself.
#[derive(Clone)]
pub struct Remote {
    /// A row that lives in L2 only.
    pub cache: Cache<User>,
    /// One multiplexed connection.
    pub raw: MultiplexedConnection,
    /// One whose reads the server tracks, as those of larder are.
    pub tracked: MultiplexedConnection,
    /// A pool, from which a connection is checked out for each command.
    pub pool: deadpool_redis::Pool,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl Remote {
    /// Fills the server and connects to it in three ways.
    pub async fn new(server: &RedisServer) -> Self {
        Self::with(server, RedisConfig::new(server.url())).await
    }

    /// The same, with options of larder's own connections.
    pub async fn with(server: &RedisServer, config: RedisConfig) -> Self {
        let larder = Larder::builder()
            .ttl_table(TtlTable::from_toml(TABLE).unwrap())
            .redis_config(config)
            .build()
            .await
            .unwrap();
        let cache = larder.cache("remote").unwrap();
        for id in 0..KEYS {
            cache.insert(id, User::new(id)).await.unwrap();
        }
        let client = Client::open(server.url()).unwrap();
        let raw = client.get_multiplexed_async_connection().await.unwrap();
        let tracked = Client::open(format!("{}?protocol=resp3", server.url())).unwrap();
        let tracked = tracked.get_multiplexed_async_connection().await.unwrap();
        cmd("CLIENT").arg("TRACKING").arg("ON").exec_async(&mut tracked.clone()).await.unwrap();
        let pool = deadpool_redis::Config::from_url(server.url())
            .create_pool(Some(deadpool_redis::Runtime::Tokio1))
            .unwrap();
        Self { cache, raw, tracked, pool }
    }

    /// A read through larder.
    pub async fn read(&self, id: u64) -> Arc<User> {
        self.cache.get(id).await.unwrap().unwrap()
    }

    /// A read through the multiplexed connection.
    pub async fn raw_read(&self, id: u64) -> User {
        Self::read_over(self.raw.clone(), id).await
    }

    /// A read that the server tracks.
    pub async fn tracked_read(&self, id: u64) -> User {
        Self::read_over(self.tracked.clone(), id).await
    }

    async fn read_over(mut connection: MultiplexedConnection, id: u64) -> User {
        let bytes: Vec<u8> = connection.get(format!("remote:{id}")).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// A read through a connection that is checked out for it.
    pub async fn pooled_read(&self, id: u64) -> User {
        let bytes: Vec<u8> = self.pool.get().await.unwrap().get(format!("remote:{id}")).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}
