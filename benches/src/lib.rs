//! The subjects of the benchmarks: larder, and the raw libraries below it, on the same keys and
//! values.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a benchmark that cannot be set up should stop where it cannot"
)]

use std::{convert::Infallible, hint::black_box, sync::Arc};

use deadpool_redis::redis::{AsyncCommands, Client, aio::MultiplexedConnection, cmd};
use futures_util::FutureExt;
use larder::{Cache, L1Store, Larder, RedisConfig, TtlTable};
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
        let about =
            "likes caches that say what they promise, and promise what they keep; ".repeat(3);
        Self {
            id,
            name: format!("user {id}"),
            mail: format!("user.{id}@example.org"),
            about,
        }
    }
}

/// The number of keys.
pub const KEYS: u64 = 10_000;

const TABLE: &str = r#"
    [user_profile]
    prefix = "user"
    ttl = "1h"

    [remote]
    ttl = "1h"
    levels = "l2"
"#;

/// A sequence of keys, equal at every call: Zipf-distributed with exponent 0.99.
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

/// A sequence of keys, equal at every call: uniformly distributed.
pub fn uniform(len: usize) -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..len).map(|_| random.u64(..KEYS)).collect()
}

/// L1 of larder on each of its stores, and these stores by themselves, with the same entries.
#[derive(Clone, Debug)]
pub struct Local {
    /// larder's L1 on moka.
    pub on_moka: Cache<u64, User>,
    /// larder's L1 on quick_cache.
    pub on_quick: Cache<u64, User>,
    /// moka by itself, with the same key texts.
    pub moka: moka::sync::Cache<String, Arc<User>>,
    /// quick_cache by itself, with the same key texts.
    pub quick: Arc<quick_cache::sync::Cache<String, Arc<User>>>,
    /// The key texts, by number.
    pub texts: Arc<[String]>,
}

/// A run of hits on these keys in one of the stores.
pub type Hits = fn(&Local, &[u64]);

const ROOM: u32 = 100_000;

impl Local {
    /// Fills all stores. With a server, larder's entries are in L2 too.
    pub async fn new(server: Option<&RedisServer>) -> Self {
        let texts: Arc<[String]> = (0..KEYS).map(|id| format!("user:{id}")).collect();
        let moka = moka::sync::Cache::new(u64::from(ROOM));
        let quick = Arc::new(quick_cache::sync::Cache::new(ROOM as usize));
        for (id, text) in (0..KEYS).zip(&*texts) {
            moka.insert(text.clone(), Arc::new(User::new(id)));
            quick.insert(text.clone(), Arc::new(User::new(id)));
        }
        let (on_moka, on_quick) = (
            own(L1Store::Moka, server).await,
            own(L1Store::Quick, server).await,
        );
        Self {
            on_moka,
            on_quick,
            moka,
            quick,
            texts,
        }
    }

    /// Hits these keys in larder on moka, one after the other.
    pub fn on_moka(&self, keys: &[u64]) {
        hit_all(&self.on_moka, keys);
    }

    /// Hits these keys in larder on quick_cache.
    pub fn on_quick(&self, keys: &[u64]) {
        hit_all(&self.on_quick, keys);
    }

    /// Hits these keys in moka.
    pub fn moka(&self, keys: &[u64]) {
        keys.iter()
            .for_each(|id| drop(black_box(self.moka.get(self.text(*id)).unwrap())));
    }

    /// Hits these keys in quick_cache.
    pub fn quick(&self, keys: &[u64]) {
        keys.iter()
            .for_each(|id| drop(black_box(self.quick.get(self.text(*id)).unwrap())));
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "ids are small")]
    fn text(&self, id: u64) -> &str {
        &self.texts[id as usize]
    }
}

/// Awaits each future, as a caller does. None of them waits for anything, so one poll ends them
/// all.
fn hit_all(cache: &Cache<u64, User>, keys: &[u64]) {
    let hits = async {
        for id in keys {
            drop(black_box(cache.get(*id).await.unwrap().unwrap()));
        }
    };
    hits.now_or_never().unwrap();
}

async fn own(store: L1Store, server: Option<&RedisServer>) -> Cache<u64, User> {
    let mut builder = Larder::builder()
        .ttl_table(TtlTable::from_toml(TABLE).unwrap())
        .l1_store(store)
        .l1_entries(u64::from(ROOM));
    if let Some(server) = server {
        builder = builder.redis(server.url());
    }
    let cache = builder
        .build()
        .await
        .unwrap()
        .cache("user_profile")
        .unwrap();
    for id in 0..KEYS {
        cache
            .get_or_load(
                id,
                move || async move { Ok::<_, Infallible>(User::new(id)) },
            )
            .await
            .unwrap();
    }
    cache
}

/// L2 through larder, and through the client by itself.
#[derive(Clone)]
pub struct Remote {
    /// A policy whose entries live in L2 only.
    pub cache: Cache<u64, User>,
    /// One multiplexed connection.
    pub raw: MultiplexedConnection,
    /// A connection whose reads the server tracks, as it does larder's.
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

    /// Like [`new`](Self::new), with options of larder's own connections.
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
        cmd("CLIENT")
            .arg("TRACKING")
            .arg("ON")
            .exec_async(&mut tracked.clone())
            .await
            .unwrap();
        let pool = deadpool_redis::Config::from_url(server.url())
            .create_pool(Some(deadpool_redis::Runtime::Tokio1))
            .unwrap();
        Self {
            cache,
            raw,
            tracked,
            pool,
        }
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
        let bytes: Vec<u8> = self
            .pool
            .get()
            .await
            .unwrap()
            .get(format!("remote:{id}"))
            .await
            .unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}
