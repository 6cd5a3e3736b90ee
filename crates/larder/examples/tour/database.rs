//! The application's database: SQLite in a file, with one connection for writes and some for reads.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::model::{Post, Session, User};

pub(crate) const USERS: u64 = 10_000;
pub(crate) const POSTS: u64 = 20_000;

const READERS: u32 = 8;

#[derive(Clone, Debug)]
pub(crate) struct Database {
    read: SqlitePool,
    write: SqlitePool,
    /// The number of statements so far, which the cache is there to avoid.
    statements: Arc<AtomicU64>,
}

const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, logins INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE posts (id INTEGER PRIMARY KEY, author INTEGER NOT NULL, title TEXT NOT NULL);
    CREATE INDEX posts_of ON posts (author, id);
    CREATE TABLE follows (user INTEGER NOT NULL, follower INTEGER NOT NULL, PRIMARY KEY (user, follower));
    CREATE TABLE sessions (token TEXT PRIMARY KEY, user INTEGER NOT NULL);
";

/// The rows are made up by SQLite itself, which takes no time.
const USERS_SQL: &str = r#"
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?),
    words(first, last) AS (VALUES (
        '["Ada","Grace","Alan","Edsger","Barbara","Donald","Tony","Leslie","Frances","Ken"]',
        '["Lovelace","Hopper","Turing","Dijkstra","Liskov","Knuth","Hoare","Lamport","Allen","Thompson"]'))
    INSERT INTO users (id, name)
    SELECT i, json_extract(first, '$[' || (i % 10) || ']') || ' ' || json_extract(last, '$[' || (i / 10 % 10) || ']')
    FROM n, words
"#;
const POSTS_SQL: &str = r#"
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?),
    words(what, on_what) AS (VALUES (
        '["Notes on","A tour of","Against","In praise of","Ten years of","Debugging","A proof of"]',
        '["caches","leases","clocks","queues","lifetimes","pipelines","bounded waits","Rust","SQLite","hashing","logs"]'))
    INSERT INTO posts (id, author, title)
    SELECT i, 1 + i % 10000, json_extract(what, '$[' || (i % 7) || ']') || ' ' || json_extract(on_what, '$[' || (i % 11) || ']')
    FROM n, words
"#;
const FOLLOWS_SQL: &str = "
    WITH hops(n) AS (VALUES (1), (2), (3))
    INSERT INTO follows SELECT id, 1 + (id + n * 37) % 10000 FROM users, hops
";

impl Database {
    pub(crate) async fn open(file: &Path) -> sqlx::Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(5));
        let pool = |connections| {
            SqlitePoolOptions::new()
                .min_connections(connections)
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(30))
                .test_before_acquire(false)
        };
        // SQLite has one writer at a time: in a pool of one they queue fairly, instead of retrying.
        let write = pool(1).connect_with(options.clone()).await?;
        let mut seeding = write.begin().await?;
        sqlx::raw_sql(SCHEMA).execute(&mut *seeding).await?;
        sqlx::query(USERS_SQL)
            .bind(USERS.cast_signed())
            .execute(&mut *seeding)
            .await?;
        sqlx::query(POSTS_SQL)
            .bind(POSTS.cast_signed())
            .execute(&mut *seeding)
            .await?;
        sqlx::query(FOLLOWS_SQL).execute(&mut *seeding).await?;
        seeding.commit().await?;
        let read = pool(READERS).connect_with(options).await?;
        Ok(Self {
            read,
            write,
            statements: Arc::default(),
        })
    }

    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// The number of statements that were executed for the application so far.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    fn read(&self) -> &SqlitePool {
        self.statements.fetch_add(1, Ordering::Relaxed);
        &self.read
    }

    fn write(&self) -> &SqlitePool {
        self.statements.fetch_add(1, Ordering::Relaxed);
        &self.write
    }

    pub(crate) async fn version(&self) -> sqlx::Result<String> {
        sqlx::query_scalar("SELECT sqlite_version()")
            .fetch_one(&self.read)
            .await
    }

    pub(crate) async fn user(&self, id: i64) -> sqlx::Result<User> {
        self.find_user(id).await?.ok_or(sqlx::Error::RowNotFound)
    }

    pub(crate) async fn find_user(&self, id: i64) -> sqlx::Result<Option<User>> {
        let row = sqlx::query_as("SELECT id, name, logins FROM users WHERE id = ?").bind(id);
        Ok(row.fetch_optional(self.read()).await?.map(user))
    }

    /// All users, in the order of their ids.
    pub(crate) async fn all_users(&self) -> sqlx::Result<Vec<User>> {
        let rows = sqlx::query_as("SELECT id, name, logins FROM users ORDER BY id")
            .fetch_all(&self.read)
            .await?;
        Ok(rows.into_iter().map(user).collect())
    }

    pub(crate) async fn rename(&self, id: i64, name: &str) -> sqlx::Result<User> {
        let row =
            sqlx::query_as("UPDATE users SET name = ? WHERE id = ? RETURNING id, name, logins");
        Ok(user(row.bind(name).bind(id).fetch_one(self.write()).await?))
    }

    pub(crate) async fn log_in(&self, id: i64) -> sqlx::Result<User> {
        let row = sqlx::query_as(
            "UPDATE users SET logins = logins + 1 WHERE id = ? RETURNING id, name, logins",
        );
        Ok(user(row.bind(id).fetch_one(self.write()).await?))
    }

    pub(crate) async fn delete_user(&self, id: i64) -> sqlx::Result<u64> {
        let deleted = sqlx::query("DELETE FROM users WHERE id = ?")
            .bind(id)
            .execute(self.write())
            .await?;
        Ok(deleted.rows_affected())
    }

    pub(crate) async fn latest_posts(&self, author: i64) -> sqlx::Result<Vec<Post>> {
        let rows = sqlx::query_as(
            "SELECT id, title FROM posts WHERE author = ? ORDER BY id DESC LIMIT 10",
        );
        Ok(rows
            .bind(author)
            .fetch_all(self.read())
            .await?
            .into_iter()
            .map(post)
            .collect())
    }

    pub(crate) async fn search(&self, words: &str) -> sqlx::Result<Vec<Post>> {
        let rows = sqlx::query_as(
            "SELECT id, title FROM posts WHERE title LIKE ? ORDER BY id DESC LIMIT 10",
        );
        let pattern = format!("%{words}%");
        Ok(rows
            .bind(pattern)
            .fetch_all(self.read())
            .await?
            .into_iter()
            .map(post)
            .collect())
    }

    pub(crate) async fn followers(&self, user: i64) -> sqlx::Result<Vec<i64>> {
        let rows =
            sqlx::query_scalar("SELECT follower FROM follows WHERE user = ? ORDER BY follower");
        rows.bind(user).fetch_all(self.read()).await
    }

    pub(crate) async fn open_session(&self, token: &str, user: i64) -> sqlx::Result<Session> {
        let insert = sqlx::query("INSERT INTO sessions (token, user) VALUES (?, ?)");
        insert.bind(token).bind(user).execute(self.write()).await?;
        Ok(Session { user })
    }

    pub(crate) async fn session(&self, token: &str) -> sqlx::Result<Option<Session>> {
        let row = sqlx::query_scalar("SELECT user FROM sessions WHERE token = ?").bind(token);
        Ok(row
            .fetch_optional(self.read())
            .await?
            .map(|user| Session { user }))
    }

    pub(crate) async fn close_session(&self, token: &str) -> sqlx::Result<u64> {
        let closed = sqlx::query("DELETE FROM sessions WHERE token = ?")
            .bind(token)
            .execute(self.write())
            .await?;
        Ok(closed.rows_affected())
    }
}

fn user((id, name, logins): (i64, String, i64)) -> User {
    User { id, name, logins }
}

fn post((id, title): (i64, String)) -> Post {
    Post { id, title }
}
