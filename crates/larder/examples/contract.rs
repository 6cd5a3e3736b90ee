//! An application of the facade: these calls compile unchanged and this program runs to its end,
//! with `REDIS_URL` set (both levels) and without it (L1 only).
use std::{collections::HashMap, io, sync::Arc, time::Duration};

use larder::{Cache, Error, Larder, Loaded, TtlTable};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

/// Stands for the application's database.
#[derive(Clone, Default)]
struct Db;

impl Db {
    async fn find(&self, id: u64) -> io::Result<User> {
        Ok(User { id, name: format!("user {id}") })
    }
    async fn find_optional(&self, id: u64) -> io::Result<Option<User>> {
        Ok((id < 1000).then(|| User { id, name: format!("user {id}") }))
    }
    #[expect(dead_code, reason = "used by the batched read below")]
    async fn find_many(&self, ids: Vec<u64>) -> io::Result<HashMap<u64, User>> {
        Ok(ids.into_iter().map(|id| (id, User { id, name: format!("user {id}") })).collect())
    }
    async fn rename(&self, id: u64, name: &str) -> io::Result<User> {
        Ok(User { id, name: name.to_owned() })
    }
    async fn delete(&self, _id: u64) -> io::Result<u64> {
        Ok(1)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let table = TtlTable::from_toml(
        r#"
        [user_profile]
        prefix = "contract-user"
        ttl = "1h"
        l1_ttl = "60s"
        reason = "moderate change frequency"

        [user_posts]
        prefix = "contract-posts"
        ttl = "5m"
        negative_ttl = "30s"
        "#,
    )?;
    let mut builder = Larder::builder().ttl_table(table);
    if let Ok(url) = std::env::var("REDIS_URL") {
        builder = builder.redis(url);
    }
    let larder: Larder = builder.build().await?;
    let users: Cache<User> = larder.cache("user_profile")?;
    let posts: Cache<Vec<String>> = larder.cache("user_posts")?;
    let db = Db;

    // Cache-aside. A key is anything that can name an entry: integers, strings, tuples.
    let source = db.clone();
    let user: Arc<User> = users.get_or_load(42, || async move { source.find(42).await }).await?;
    assert_eq!(user.name, "user 42");
    let hit: Option<Arc<User>> = users.get(42).await?;
    assert_eq!(hit.as_deref(), Some(&*user));

    // A value that may not exist: its absence is remembered as the row says.
    let source = db.clone();
    let none: Option<Arc<User>> =
        users.get_or_load_optional(9999, || async move { source.find_optional(9999).await }).await?;
    assert!(none.is_none());

    // The loader can say more about what it loaded: its own TTL, its tags.
    let source = db.clone();
    users
        .get_or_load("43", || async move {
            let user = source.find(43).await?;
            Ok::<_, io::Error>(Loaded::new(user).ttl(Duration::from_secs(30)).tag("org:7"))
        })
        .await?;
    larder.invalidate_tag("org:7").await?;
    assert!(users.get(43).await?.is_none());

    // Write-through: the database and both levels in one operation.
    let source = db.clone();
    let renamed: Arc<User> =
        users.write_through(42, || async move { source.rename(42, "Ada").await }).await?;
    assert_eq!(renamed.name, "Ada");
    assert_eq!(users.get(42).await?.unwrap().name, "Ada");

    // Write-around: the database is written and the entry is gone.
    let source = db.clone();
    let deleted: u64 = users.write_around(42, || async move { source.delete(42).await }).await?;
    assert_eq!(deleted, 1);
    assert!(users.get(42).await?.is_none());

    // Put a value in directly, and invalidate it with its related entries, across types.
    users.insert("42", User { id: 42, name: "Grace".into() }).await?;
    posts.insert((42, "latest"), vec!["hello".into()]).await?;
    larder.invalidate([users.key(42), posts.key((42, "latest"))]).await?;
    assert!(posts.get((42, "latest")).await?.is_none());

    // Many at once: one loader call for all that no level holds.
    // let source = db.clone();
    // let many: HashMap<u64, Arc<User>> = users
    //     .get_or_load_many(&[1_u64, 2, 3], |missing| async move { source.find_many(missing).await })
    //     .await?;
    // assert_eq!(many.len(), 3);

    // A loader's own error reaches the caller with its source.
    let failed =
        users.get_or_load(7, || async { Err::<User, _>(io::Error::other("database is down")) }).await;
    assert!(matches!(&failed, Err(Error::Load(source)) if source.to_string().contains("database is down")));

    // What happened, in numbers.
    let stats = users.stats();
    assert!(stats.l1_hits + stats.l2_hits + stats.loads > 0);
    assert!(larder.cache::<User>("no_such_row").is_err());

    // Nothing is left behind.
    users.clear().await?;
    posts.clear().await?;
    println!("contract holds");
    Ok(())
}
