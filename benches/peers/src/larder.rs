use std::{convert::Infallible, sync::Arc};

use larder::{Cache, L1Store, Larder, TtlTable};
use larder_comparison::{Database, Key, Levels, Problem, Setting, User};

/// One policy of the TTL table. Keys are numbers: larder formats them by itself.
#[derive(Clone)]
pub(crate) struct Subject<const QUICK: bool>(Cache<u64, User>);

/// With the store that it takes by itself.
pub(crate) type Moka = Subject<false>;
pub(crate) type Quick = Subject<true>;

impl<const QUICK: bool> larder_comparison::Subject for Subject<QUICK> {
    type Value = Arc<User>;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        let levels = match setting.levels {
            Levels::Remote => "levels = \"l2\"",
            Levels::Local | Levels::All => "l1_ttl = \"1h\"",
        };
        let table = format!("[user_profile]\nprefix = \"user\"\nttl = \"1h\"\n{levels}");
        let mut builder =
            Larder::builder().ttl_table(TtlTable::from_toml(&table)?).l1_entries(setting.capacity);
        if QUICK {
            builder = builder.l1_store(L1Store::Quick);
        }
        if setting.levels != Levels::Local {
            builder = builder.redis(&setting.redis);
        }
        Ok(Self(builder.build().await?.cache("user_profile")?))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        self.0.get(key.id).await.ok().flatten()
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        Ok(self.0.insert(key.id, user).await?)
    }

    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        let (id, database) = (key.id, database.clone());
        let load = move || async move { Ok::<_, Infallible>(database.find(id).await) };
        Ok(self.0.get_or_load(id, load).await?)
    }

    async fn write_through(&self, key: &Key, user: User, database: &Database) -> Result<(), Problem> {
        let database = database.clone();
        let write = move || async move { Ok::<_, Infallible>(database.write(user).await) };
        self.0.write_through(key.id, write).await?;
        Ok(())
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        Ok(self.0.invalidate(key.id).await?)
    }
}
