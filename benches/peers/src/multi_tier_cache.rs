use std::{sync::Arc, time::Duration};

use larder_comparison::{Database, Key, Levels, Problem, Setting, User};
use multi_tier_cache::{
    CacheManager, CacheStrategy, CacheTier, InvalidationConfig, L1Cache, L2Cache, MokaCacheConfig,
};

/// Its manager with the tiers that are asked for; with both, the one that broadcasts invalidations.
#[derive(Clone)]
pub(crate) struct Subject(Arc<CacheManager>);

const TTL: CacheStrategy = CacheStrategy::MediumTerm;

impl larder_comparison::Subject for Subject {
    type Value = User;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        let hour = Duration::from_secs(3600);
        let config =
            MokaCacheConfig { max_capacity: setting.capacity, time_to_live: hour, time_to_idle: hour };
        let l1 = || L1Cache::new(config).map(Arc::new);
        let manager = match setting.levels {
            Levels::Local => {
                CacheManager::new_with_tiers(vec![CacheTier::new(l1()?, 1, false, 1, 1.0)], None)?
            }
            Levels::Remote => {
                let l2 = Arc::new(L2Cache::with_url(&setting.redis).await?);
                CacheManager::new_with_tiers(vec![CacheTier::new(l2, 1, false, 1, 1.0)], None)?
            }
            Levels::All => {
                let l2 = Arc::new(L2Cache::with_url(&setting.redis).await?);
                let config = InvalidationConfig::default();
                CacheManager::new_with_invalidation(l1()?, l2, &setting.redis, config).await?
            }
        };
        Ok(Self(Arc::new(manager)))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get_typed(&key.text).await.ok().flatten()
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        Ok(self.0.set_with_strategy(&key.text, serde_json::to_vec(&user)?.into(), TTL).await?)
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        let load = || async { Ok(database.find(key.id).await) };
        Ok(self.0.get_or_compute_typed(&key.text, TTL, load).await?)
    }

    async fn write_through(&self, key: &Key, user: User, database: &Database) -> Result<(), Problem> {
        let user = database.write(user).await;
        Ok(self.0.set_with_broadcast(&key.text, serde_json::to_vec(&user)?.into(), TTL).await?)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        Ok(self.0.invalidate(&key.text).await?)
    }
}
