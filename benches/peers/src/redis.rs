use deadpool_redis::{Pool, Runtime};
use larder_comparison::{Database, Key, Levels, Problem, Setting, Subject, User, cannot};
use redis::{AsyncCommands, Client, aio::MultiplexedConnection};

/// One connection that all tasks share, and JSON.
#[derive(Clone)]
pub(crate) struct Multiplexed(MultiplexedConnection);

/// A connection that is checked out of a pool for each command, and JSON.
#[derive(Clone)]
pub(crate) struct Pooled(Pool);

const TTL_SECONDS: u64 = 3600;

fn remote_only(setting: &Setting) -> Result<(), Problem> {
    match setting.levels {
        Levels::Local => cannot("no L1"),
        _ if setting.coherent => cannot("no L1 that could be old"),
        _ => Ok(()),
    }
}

impl Subject for Multiplexed {
    type Value = User;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        remote_only(setting)?;
        let client = Client::open(setting.redis.as_str())?;
        Ok(Self(client.get_multiplexed_async_connection().await?))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        get(&mut self.0.clone(), key).await
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        set(&mut self.0.clone(), key, &user).await
    }

    /// As it is written by hand.
    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        if let Some(user) = self.get(key).await {
            return Ok(user);
        }
        let user = database.find(key.id).await;
        self.insert(key, user.clone()).await?;
        Ok(user)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        Ok(self.0.clone().del(&key.text).await?)
    }
}

impl Subject for Pooled {
    type Value = User;

    async fn open(setting: &Setting) -> Result<Self, Problem> {
        remote_only(setting)?;
        let config = deadpool_redis::Config::from_url(setting.redis.as_str());
        Ok(Self(config.create_pool(Some(Runtime::Tokio1))?))
    }

    async fn get(&self, key: &Key) -> Option<Self::Value> {
        get(&mut self.0.get().await.ok()?, key).await
    }

    async fn insert(&self, key: &Key, user: User) -> Result<(), Problem> {
        set(&mut self.0.get().await?, key, &user).await
    }

    /// As it is written by hand.
    async fn get_or_load(&self, key: &Key, database: &Database) -> Result<Self::Value, Problem> {
        if let Some(user) = self.get(key).await {
            return Ok(user);
        }
        let user = database.find(key.id).await;
        self.insert(key, user.clone()).await?;
        Ok(user)
    }

    async fn invalidate(&self, key: &Key) -> Result<(), Problem> {
        Ok(self.0.get().await?.del(&key.text).await?)
    }
}

async fn get(connection: &mut impl AsyncCommands, key: &Key) -> Option<User> {
    let bytes: Option<Vec<u8>> = connection.get(&key.text).await.ok()?;
    serde_json::from_slice(&bytes?).ok()
}

async fn set(connection: &mut impl AsyncCommands, key: &Key, user: &User) -> Result<(), Problem> {
    Ok(connection.set_ex(&key.text, serde_json::to_vec(user)?, TTL_SECONDS).await?)
}
