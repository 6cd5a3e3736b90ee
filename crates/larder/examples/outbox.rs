//! An outbox: the transaction that changes the data also records the keys that it outdates, so that
//! a process which dies before its invalidation loses nothing. On SQLite; for PostgreSQL only the
//! first lines differ.
//!
//! `cargo run -p larder --example outbox`, which starts a Redis of its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larder::{Cache, Key, Larder, Outbox, OutboxEntry, OutboxError};
use larder_testkit::RedisServer;
use serde::{Deserialize, Serialize};
use sqlx::Pool;

/// For PostgreSQL: `sqlx::Postgres`, with sqlx' feature `postgres`.
type Db = sqlx::Sqlite;

/// Ids are never used twice. For PostgreSQL: `id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY`.
const OUTBOX: &str =
    "CREATE TABLE cache_outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL)";

/// Takes the ids as a JSON list. For PostgreSQL: `SELECT value::bigint FROM
/// json_array_elements_text($1::json)`.
const CONFIRM: &str = "DELETE FROM cache_outbox WHERE id IN (SELECT value FROM json_each($1))";

const RECORD: &str = "INSERT INTO cache_outbox (key) VALUES ($1) RETURNING id";
const UNCONFIRMED: &str = "SELECT id, key FROM cache_outbox WHERE id > $1 ORDER BY id LIMIT $2";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: i64,
    name: String,
}

/// The application's database.
#[derive(Clone)]
struct Database(Pool<Db>);

type Result<T = (), E = OutboxError> = std::result::Result<T, E>;

impl Database {
    async fn open(url: &str) -> Result<Self> {
        let pool = Pool::connect(url).await?;
        sqlx::query("CREATE TABLE users (id BIGINT PRIMARY KEY, name TEXT NOT NULL)")
            .execute(&pool)
            .await?;
        sqlx::query("INSERT INTO users (id, name) VALUES (1, 'Ada')")
            .execute(&pool)
            .await?;
        sqlx::query(OUTBOX).execute(&pool).await?;
        Ok(Self(pool))
    }

    async fn find(&self, id: i64) -> Result<User> {
        let row = sqlx::query_as("SELECT id, name FROM users WHERE id = $1").bind(id);
        let (id, name) = row.fetch_one(&self.0).await?;
        Ok(User { id, name })
    }

    /// Changes the data, and records the keys that this outdates: both or neither.
    async fn rename(&self, id: i64, name: &str, keys: &[Key]) -> Result<Vec<OutboxEntry>> {
        let mut transaction = self.0.begin().await?;
        let change = sqlx::query("UPDATE users SET name = $1 WHERE id = $2")
            .bind(name)
            .bind(id);
        change.execute(&mut *transaction).await?;
        let mut entries = Vec::new();
        for key in keys {
            let key = key.to_string();
            let id = sqlx::query_scalar(RECORD)
                .bind(key.clone())
                .fetch_one(&mut *transaction)
                .await?;
            entries.push(OutboxEntry { id, key });
        }
        transaction.commit().await?;
        Ok(entries)
    }
}

#[async_trait]
impl Outbox for Database {
    async fn unconfirmed(&self, after: i64, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        let rows = sqlx::query_as(UNCONFIRMED)
            .bind(after)
            .bind(i64::try_from(limit)?);
        let rows: Vec<(i64, String)> = rows.fetch_all(&self.0).await?;
        Ok(rows
            .into_iter()
            .map(|(id, key)| OutboxEntry { id, key })
            .collect())
    }

    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError> {
        sqlx::query(CONFIRM)
            .bind(serde_json::to_string(ids)?)
            .execute(&self.0)
            .await?;
        Ok(())
    }
}

/// Starts a process of the service. All of them drain the outbox, so that any process can finish
/// the work of a dead one.
async fn start(redis: &RedisServer, database: &Database) -> Result<(Larder, Cache<i64, User>)> {
    let larder = Larder::builder()
        .redis(redis.url())
        .outbox(Arc::new(database.clone()))
        .build()
        .await?;
    let users = larder.cache("user_profile")?;
    Ok((larder, users))
}

async fn name(users: &Cache<i64, User>, database: &Database) -> Result<String> {
    let database = database.clone();
    Ok(users
        .get_or_load(1, || async move { database.find(1).await })
        .await?
        .name
        .clone())
}

/// Waits until this process serves the name: until the push has reached it.
async fn sees(users: &Cache<i64, User>, database: &Database, expected: &str) -> Result {
    for _ in 0..5000 {
        if name(users, database).await? == expected {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Err(format!("{expected} is not served").into())
}

#[tokio::main]
async fn main() -> Result {
    let redis = RedisServer::start().await?;
    let folder = tempfile::tempdir()?;
    let file = format!(
        "sqlite://{}?mode=rwc",
        folder.path().join("app.db").display()
    );
    let database = Database::open(&std::env::args().nth(1).unwrap_or(file)).await?;
    let (larder, users) = start(&redis, &database).await?;
    let (_, other_users) = start(&redis, &database).await?;
    assert_eq!(name(&other_users, &database).await?, "Ada");

    // A write: the transaction, then the invalidation, which confirms the recorded entries.
    let entries = database.rename(1, "Grace", &[users.key(1)]).await?;
    larder.confirm_written(&database, &entries).await?;
    sees(&other_users, &database, "Grace").await?;
    println!(
        "a write confirms its entries: {:?} is left",
        database.unconfirmed(i64::MIN, 10).await?
    );

    // A write of a process that dies here, between its commit and its invalidation.
    database.rename(1, "Barbara", &[users.key(1)]).await?;
    println!(
        "a process died, and owes {:?}",
        database.unconfirmed(i64::MIN, 10).await?
    );

    // Another process invalidates the key, at its start or when its next drain is due.
    let _started = start(&redis, &database).await?;
    sees(&other_users, &database, "Barbara").await?;
    while !database.unconfirmed(i64::MIN, 10).await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("another process invalidated the key: nothing is left");
    Ok(())
}
