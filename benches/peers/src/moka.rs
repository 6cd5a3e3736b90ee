use std::sync::Arc;

use larder_comparison::{Database, Key, Levels, Problem, Setting, Subject, User, cannot};

/// `moka::sync::Cache`.
#[derive(Clone)]
pub(crate) struct Sync(moka::sync::Cache<String, Arc<User>>);

/// `moka::future::Cache`.
#[derive(Clone)]
pub(crate) struct Future(moka::future::Cache<String, Arc<User>>);

/// The limits of every cache that lives in one process.
pub(crate) fn local_only(setting: &Setting) -> Result<(), Problem> {
    match setting.levels {
        Levels::Remote => cannot("no Redis"),
        _ if setting.coherent => cannot("no cross-process invalidation"),
        _ => Ok(()),
    }
}

impl Subject for Sync {
    type Value = Arc<User>;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        local_only(setting)?;
        Ok(Self(moka::sync::Cache::new(setting.capacity)))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get(key.text.as_str())
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.0.insert(key.text.clone(), Arc::new(user));
        Ok(())
    }

    async fn get_or_load(&self, _key: &Key, _database: &Database) -> Result<Self::Value, Problem> {
        cannot("its loader blocks a thread: see moka (future)")
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        self.0.invalidate(key.text.as_str());
        Ok(())
    }
}

impl Subject for Future {
    type Value = Arc<User>;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        local_only(setting)?;
        Ok(Self(moka::future::Cache::new(setting.capacity)))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get(key.text.as_str()).await
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.0.insert(key.text.clone(), Arc::new(user)).await;
        Ok(())
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        let load = async { Arc::new(database.find(key.id).await) };
        Ok(self.0.entry_by_ref(key.text.as_str()).or_insert_with(load).await.into_value())
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        self.0.invalidate(key.text.as_str()).await;
        Ok(())
    }
}
