use std::{sync::Arc, time::Duration};

use cached::{AsyncRedisCache, ShardedLruCache, prelude::*};
use larder_comparison::{Database, Key, Levels, Problem, Setting, Subject, User, cannot};

use crate::moka::local_only;

const TTL: Duration = Duration::from_secs(3600);

/// One of its stores: the sharded one in memory, or Redis. No call reads one and then the other.
#[derive(Clone)]
pub(crate) enum Stores {
    Memory(Arc<ShardedLruCache<String, Arc<User>>>),
    Redis(Arc<AsyncRedisCache<String, User>>),
}

/// Its Redis store with client-side caching, which is the Redis client's.
#[derive(Clone)]
pub(crate) struct ClientSide(Arc<AsyncRedisCache<String, User>>);

impl Subject for Stores {
    type Value = Arc<User>;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        if setting.levels == Levels::Local {
            return Ok(Self::Memory(Arc::new(ShardedLruCache::new(usize::try_from(setting.capacity)?))));
        }
        if setting.coherent {
            local_only(setting)?;
        }
        Ok(Self::Redis(Arc::new(redis(setting, false).await?)))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        match self {
            Self::Memory(cache) => cache.get(key.text.as_str()),
            Self::Redis(cache) => cache.async_cache_get(&key.text).await.ok().flatten().map(Arc::new),
        }
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        match self {
            Self::Memory(cache) => drop(cache.set(key.text.clone(), Arc::new(user))),
            Self::Redis(cache) => drop(cache.async_cache_set(key.text.clone(), user).await?),
        }
        Ok(())
    }

    /// As its `#[concurrent_cached]` does it.
    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        if let Some(user) = self.get(key).await {
            return Ok(user);
        }
        let user = database.find(key.id).await;
        self.insert(key, user.clone()).await?;
        Ok(Arc::new(user))
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        match self {
            Self::Memory(cache) => drop(cache.delete(key.text.as_str())),
            Self::Redis(cache) => drop(cache.async_cache_delete(&key.text).await?),
        }
        Ok(())
    }
}

impl Subject for ClientSide {
    type Value = User;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        match setting.levels {
            Levels::Local => cannot("no L1 without Redis"),
            Levels::Remote => cannot("no read past the client's copies"),
            Levels::All => Ok(Self(Arc::new(redis(setting, true).await?))),
        }
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.async_cache_get(&key.text).await.ok().flatten()
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.0.async_cache_set(key.text.clone(), user).await?;
        Ok(())
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        if let Some(user) = self.get(key).await {
            return Ok(user);
        }
        let user = database.find(key.id).await;
        self.insert(key, user.clone()).await?;
        Ok(user)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        self.0.async_cache_delete(&key.text).await?;
        Ok(())
    }
}

async fn redis(setting: &Setting, client_side: bool) -> Result<AsyncRedisCache<String, User>, Problem> {
    let builder = AsyncRedisCache::builder("compared").ttl(TTL).connection_string(&setting.redis);
    Ok(builder.client_side_caching(client_side).build().await?)
}
