use std::sync::Arc;

use cachet::Cache;
use larder_comparison::{Database, Key, Levels, Problem, Setting, User, cannot};
use tick::Clock;

use crate::moka::local_only;

/// Its tier in memory. Protection from stampedes takes a lock at each read, so it is on only where
/// it is wanted.
#[derive(Clone)]
pub(crate) struct Subject(Arc<Cache<String, Arc<User>>>);

impl larder_comparison::Subject for Subject {
    type Value = Arc<User>;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        if setting.levels == Levels::Remote {
            return cannot("brings no tier for Redis");
        }
        local_only(setting)?;
        let capacity = setting.capacity;
        let builder = Cache::builder::<String, Arc<User>>(Clock::new_tokio())
            .memory_with(|memory| memory.max_capacity(capacity));
        let builder = if setting.levels == Levels::All { builder.stampede_protection() } else { builder };
        Ok(Self(Arc::new(builder.build())))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        Some(self.0.get(key.text.as_str()).await.ok()??.into_value())
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.0.insert(key.text.clone(), Arc::new(user)).await?;
        Ok(())
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        let load = || async { Arc::new(database.find(key.id).await) };
        Ok(self.0.get_or_insert(key.text.as_str(), load).await?.into_value())
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        Ok(self.0.invalidate(key.text.as_str()).await?)
    }
}
