use std::{convert::Infallible, sync::Arc};

use larder_comparison::{Database, Key, Problem, Setting, User};
use quick_cache::sync::Cache;

use crate::moka::local_only;

#[derive(Clone)]
pub(crate) struct Subject(Arc<Cache<String, Arc<User>>>);

impl larder_comparison::Subject for Subject {
    type Value = Arc<User>;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        local_only(setting)?;
        Ok(Self(Arc::new(Cache::new(usize::try_from(setting.capacity)?))))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get(key.text.as_str())
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.0.insert(key.text.clone(), Arc::new(user));
        Ok(())
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        let load = async { Ok::<_, Infallible>(Arc::new(database.find(key.id).await)) };
        Ok(self.0.get_or_insert_async(key.text.as_str(), load).await?)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        self.0.remove(key.text.as_str());
        Ok(())
    }
}
