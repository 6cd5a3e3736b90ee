use std::{borrow::Borrow, convert::Infallible};

use foyer::{Cache, CacheBuilder, CacheEntry};
use larder_comparison::{Database, Key, Problem, Setting, User};

use crate::moka::local_only;

/// Its cache in memory; an entry is shared without an `Arc` of ours.
#[derive(Clone)]
pub(crate) struct Subject(Cache<String, User>);

pub(crate) struct Held(CacheEntry<String, User>);

impl Borrow<User> for Held {
    fn borrow(&self) -> &User {
        &self.0
    }
}

impl larder_comparison::Subject for Subject {
    type Value = Held;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        local_only(setting)?;
        Ok(Self(CacheBuilder::new(usize::try_from(setting.capacity)?).build()))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get(key.text.as_str()).map(Held)
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        self.0.insert(key.text.clone(), user);
        Ok(())
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        let (id, database) = (key.id, database.clone());
        let load = move || async move { Ok::<_, Infallible>(database.find(id).await) };
        Ok(Held(self.0.get_or_fetch(key.text.as_str(), load).await?))
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        self.0.remove(key.text.as_str());
        Ok(())
    }
}
