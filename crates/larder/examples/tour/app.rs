//! The application, as a service would write it: one method for each operation, with the cache
//! inside.

use std::{sync::Arc, time::Duration};

use larder::{Cache, Larder, Loaded, TtlTable};

use crate::{
    claim::Result,
    database::Database,
    model::{Post, Session, User},
};

/// The policies of this application. Those that it does not name are built in.
const TTL_TABLE: &str = r#"
[user_profile]
prefix = "user"
ttl = "1h"
negative_ttl = "30s"
reason = "changes now and then"

[user_posts]
prefix = "posts"
ttl = "5m"
reason = "new ones show soon"

[followers]
ttl = "5m"
reason = "changes often"

[flash_offer]
prefix = "offer"
ttl = "250ms"
reason = "ends by itself"
"#;

/// One instance of the service: its larder, and the caches that it takes from it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) name: &'static str,
    pub(crate) larder: Larder,
    pub(crate) users: Cache<i64, User>,
    pub(crate) posts: Cache<(i64, String), Vec<Post>>,
    pub(crate) followers: Cache<i64, Vec<i64>>,
    pub(crate) sessions: Cache<String, Session>,
    pub(crate) search: Cache<(String, u32), Vec<Post>>,
    pub(crate) offers: Cache<i64, u8>,
    database: Database,
}

impl Instance {
    pub(crate) async fn start(
        name: &'static str,
        redis: Option<&str>,
        database: &Database,
    ) -> Result<Self> {
        let mut builder = Larder::builder().ttl_table(TtlTable::from_toml(TTL_TABLE)?);
        if let Some(url) = redis {
            builder = builder.redis(url);
        }
        let larder = builder.build().await?;
        Ok(Self {
            name,
            users: larder.cache("user_profile")?,
            posts: larder.cache("user_posts")?,
            followers: larder.cache("followers")?,
            sessions: larder.cache("session_token")?,
            search: larder.cache("search_result")?,
            offers: larder.cache("flash_offer")?,
            larder,
            database: database.clone(),
        })
    }

    /// Cache-aside: L1, else L2, else the database.
    pub(crate) async fn user(&self, id: i64) -> Result<Arc<User>, larder::Error> {
        let database = self.database.clone();
        self.users
            .get_or_load(id, move || async move { database.user(id).await })
            .await
    }

    /// Cache-aside for a user who may not exist.
    pub(crate) async fn find_user(&self, id: i64) -> Result<Option<Arc<User>>, larder::Error> {
        let database = self.database.clone();
        self.users
            .find_or_load(id, move || async move { database.find_user(id).await })
            .await
    }

    /// Write-through: the database and both levels, as one operation.
    pub(crate) async fn rename(
        &self,
        id: i64,
        name: &'static str,
    ) -> Result<Arc<User>, larder::Error> {
        let database = self.database.clone();
        self.users
            .write_through(id, move || async move { database.rename(id, name).await })
            .await
    }

    pub(crate) async fn log_in(&self, id: i64) -> Result<Arc<User>, larder::Error> {
        let database = self.database.clone();
        self.users
            .write_through(id, move || async move { database.log_in(id).await })
            .await
    }

    /// Write-around: the database is written, and no level has the entry any more.
    pub(crate) async fn delete_user(&self, id: i64) -> Result<u64, larder::Error> {
        let database = self.database.clone();
        self.users
            .write_around(id, move || async move { database.delete_user(id).await })
            .await
    }

    pub(crate) async fn latest_posts(&self, author: i64) -> Result<Arc<Vec<Post>>, larder::Error> {
        let database = self.database.clone();
        let loader = move || async move { database.latest_posts(author).await };
        self.posts.get_or_load((author, "latest"), loader).await
    }

    pub(crate) async fn followers(&self, user: i64) -> Result<Arc<Vec<i64>>, larder::Error> {
        let database = self.database.clone();
        self.followers
            .get_or_load(user, move || async move { database.followers(user).await })
            .await
    }

    /// Invalidation: a job that writes many tables merges a user into another, and all derived
    /// entries go in one call.
    pub(crate) async fn forget_user(&self, id: i64) -> Result<(), larder::Error> {
        let derived = [
            self.users.key(id),
            self.posts.key((id, "latest")),
            self.followers.key(id),
        ];
        self.larder.invalidate(derived).await
    }

    pub(crate) async fn open_session(
        &self,
        token: &'static str,
        user: i64,
    ) -> Result<Arc<Session>, larder::Error> {
        let database = self.database.clone();
        let writer = move || async move { database.open_session(token, user).await };
        self.sessions.write_through(token, writer).await
    }

    pub(crate) async fn session(
        &self,
        token: &'static str,
    ) -> Result<Option<Arc<Session>>, larder::Error> {
        let database = self.database.clone();
        let loader = move || async move { database.session(token).await };
        self.sessions.find_or_load(token, loader).await
    }

    pub(crate) async fn close_session(&self, token: &'static str) -> Result<u64, larder::Error> {
        let database = self.database.clone();
        self.sessions
            .write_around(
                token,
                move || async move { database.close_session(token).await },
            )
            .await
    }

    /// A slow query. `loaded` is called at its end, only for the tour.
    pub(crate) async fn search(
        &self,
        words: &'static str,
        takes: Duration,
        loaded: impl FnOnce() + Send + 'static,
    ) -> Result<Arc<Vec<Post>>, larder::Error> {
        let database = self.database.clone();
        let loader = move || async move {
            tokio::time::sleep(takes).await; // stands for a database that is large, far away or busy
            let found = database.search(words).await;
            loaded();
            found
        };
        self.search.get_or_load((words, 1), loader).await
    }

    /// A loader that knows its value's lifetime better than the table.
    pub(crate) async fn offer(&self, id: i64, lives: Duration) -> Result<Arc<u8>, larder::Error> {
        let loader = move || async move { Ok::<_, std::io::Error>(Loaded::new(20).ttl(lives)) };
        self.offers.get_or_load(id, loader).await
    }
}
