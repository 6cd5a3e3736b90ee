use std::{borrow::Borrow, sync::Arc, time::Duration};

use hitbox::{
    concurrency::BroadcastConcurrencyManager,
    offload::OffloadManager,
    policy::{ConcurrencyLimit, PolicyConfig},
};
use hitbox_backend::{
    composition::{Compose, CompositionBackend, CompositionPolicy, policy::RefillPolicy},
    format::BincodeFormat,
};
use hitbox_fn::{Cache, prelude::*};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use larder_comparison::{Database, Key, Levels, Problem, Setting, User, cannot};
use serde::{Deserialize, Serialize};

type Compared<B> = Cache<B, BroadcastConcurrencyManager<Result<Held, Missed>>>;
type Moka = MokaBackend<BincodeFormat>;

/// A memoized function, with bincode as is recommended, a limit of one load and a refilled L1.
#[derive(Clone)]
pub(crate) enum Subject {
    Local(Compared<Moka>),
    Remote(Compared<RedisBackend>),
    Both(Compared<CompositionBackend<Moka, RedisBackend, OffloadManager>>),
}

#[derive(Clone, Debug, Serialize, Deserialize, CacheableResponse)]
pub(crate) struct Held {
    user: User,
}

impl Borrow<User> for Held {
    fn borrow(&self) -> &User {
        &self.user
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Missed;

/// Where the memoized function has its value from.
#[derive(Clone)]
pub(crate) enum Source {
    Database(Database),
    Given(Arc<User>),
    Nowhere,
}

#[cached(skip(source))]
async fn find(id: u64, source: Source) -> Result<Held, Missed> {
    match source {
        Source::Database(database) => Ok(Held { user: database.find(id).await }),
        Source::Given(user) => Ok(Held { user: Arc::unwrap_or_clone(user) }),
        Source::Nowhere => Err(Missed),
    }
}

impl Subject {
    async fn find(&self, key: &Key, source: Source) -> Result<Held, Missed> {
        match self {
            Self::Local(cache) => find(key.id, source).cache(cache).await,
            Self::Remote(cache) => find(key.id, source).cache(cache).await,
            Self::Both(cache) => find(key.id, source).cache(cache).await,
        }
    }
}

impl larder_comparison::Subject for Subject {
    type Value = Held;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        if setting.coherent {
            return cannot("no cross-process invalidation");
        }
        let one = ConcurrencyLimit::new(1).ok_or("a limit of one")?;
        let policy = PolicyConfig::builder().ttl(Duration::from_secs(3600)).concurrency(one).build();
        let manager = BroadcastConcurrencyManager::new();
        let moka =
            || MokaBackend::builder().max_entries(setting.capacity).value_format(BincodeFormat).build();
        let redis =
            || RedisBackend::builder().connection(ConnectionMode::single(setting.redis.clone())).build();
        let builder = Cache::builder().policy(policy).concurrency_manager(manager);
        Ok(match setting.levels {
            Levels::Local => Self::Local(builder.backend(moka()).build()),
            Levels::Remote => Self::Remote(builder.backend(redis()?).build()),
            Levels::All => {
                let refilled = CompositionPolicy::new().refill(RefillPolicy::Always);
                let both = moka().compose_with(redis()?, OffloadManager::with_defaults(), refilled);
                Self::Both(builder.backend(both).build())
            }
        })
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.find(key, Source::Nowhere).await.ok()
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.find(key, Source::Given(Arc::new(user))).await.map(drop).map_err(|_| "not inserted".into())
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        self.find(key, Source::Database(database.clone())).await.map_err(|_| "not loaded".into())
    }

    async fn write_through(&self, _key: &Key, _user: User, _database: &Database) -> Result<(), Problem> {
        cannot("memoizes functions: no call that replaces a value")
    }

    async fn invalidate(&self, _key: &Key) -> Result<(), Problem> {
        cannot("memoizes functions: no call that removes a value")
    }
}
