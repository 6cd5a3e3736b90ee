//! A tour of larder: a small application (users, posts, sessions, search) on a real SQLite
//! database, in two instances that share a Redis, goes through the six patterns, and shows of each
//! call what it did in the levels and how long it took. What it says it also checks: a wrong result
//! ends it with an error.
//!
//! ```text
//! cargo run --release -p larder --example tour -- [--load [--seconds N]] [--no-redis]
//! ```
//!
//! It starts a Redis server of its own and leaves nothing behind. `app.rs` shows how a service uses
//! larder.

mod app;
mod chart;
mod claim;
mod database;
mod load;
mod model;
mod options;
mod page;
mod patterns;
mod stage;
mod steps;
mod zipf;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use larder_testkit::RedisServer;

use crate::{
    app::Instance,
    claim::{Result, in_words},
    database::Database,
    options::Options,
    page::Page,
    stage::Tour,
};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let options = match Options::from_args(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(usage) => {
            eprintln!("{usage}");
            return Ok(ExitCode::from(2));
        }
    };
    // Both are gone when this function ends, however it ends.
    let folder = tempfile::Builder::new().prefix("larder-tour-").tempdir()?;
    let redis = start_redis(&options).await?;

    let database = Database::open(&folder.path().join("app.db")).await?;
    let mut tour = tokio::spawn(run(options, database.clone(), redis.clone()));
    let ended = tokio::select! {
        ended = &mut tour => Some(ended?),
        pressed = tokio::signal::ctrl_c() => {
            pressed?;
            tour.abort();
            let _ = tour.await; // it was aborted
            None
        }
    };
    // What is still on its way in the background may finish.
    let _ = tokio::time::timeout(Duration::from_secs(2), database.close()).await;
    drop(redis);
    folder.close()?;
    Ok(match ended {
        Some(Ok(())) => ExitCode::SUCCESS,
        // The reader of our output has left, as `head` does.
        Some(Err(error)) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("\nThe tour stopped: {}", in_words(&*error));
            ExitCode::FAILURE
        }
        None => {
            eprintln!(
                "\nStopped. The Redis server and the temporary folder of this tour are gone."
            );
            ExitCode::from(130)
        }
    })
}

/// Starts a server for this run alone, unless there is none to start.
async fn start_redis(options: &Options) -> Result<Option<Arc<RedisServer>>> {
    if !options.redis || larder_testkit::find_server().is_none() {
        return Ok(None);
    }
    Ok(Some(Arc::new(RedisServer::start().await?)))
}

async fn run(options: Options, database: Database, redis: Option<Arc<RedisServer>>) -> Result {
    let url = redis.as_ref().map(|redis| redis.url());
    let a = Instance::start("A", url.as_deref(), &database).await?;
    let b = match &url {
        Some(url) => Some(Instance::start("B", Some(url), &database).await?),
        None => None,
    };
    let tour = Tour {
        page: Page::new(),
        database,
        a,
        b,
        redis,
    };
    introduce(&tour, &options).await?;
    if options.load {
        load::show(&tour, options.seconds).await?;
    } else {
        patterns::cache_aside::show(&tour).await?;
        patterns::write_through::show(&tour).await?;
        patterns::invalidation::show(&tour).await?;
        patterns::lifetimes::show(&tour).await?;
        patterns::stampede::show(&tour).await?;
        patterns::levels::show(&tour).await?;
    }
    conclude(&tour, &options)
}

async fn introduce(tour: &Tour, options: &Options) -> Result {
    let page = &tour.page;
    page.title(
        "larder",
        "a multi-level cache for Rust services: L1 in the process, L2 in Redis",
    )?;
    let sqlite = tour.database.version().await?;
    let (users, posts) = (page::count(database::USERS), page::count(database::POSTS));
    page.fact(
        "database",
        &format!("SQLite {sqlite} with {users} users and {posts} posts, in a temporary file"),
    )?;
    match &tour.redis {
        Some(redis) => {
            let version = server_version(redis).await?;
            page.fact(
                "L2",
                &format!("{version} at {}, private to this run", redis.addr()),
            )?;
            page.fact(
                "instances",
                "A and B: two larders, each with its own L1, that share Redis and SQLite",
            )?;
        }
        None => {
            let why = match options.redis {
                false => "none, because of --no-redis",
                true => {
                    "none: install redis-server or valkey-server (Debian: apt-get install redis-server)"
                }
            };
            page.fact("L2", why)?;
            page.fact("instances", "A alone, with L1 in front of SQLite")?;
        }
    }
    Ok(())
}

/// Returns the server's own name and version, such as `redis 7.0.15`.
async fn server_version(redis: &RedisServer) -> io::Result<String> {
    let info = redis
        .command(&["INFO", "server"])
        .await?
        .text()
        .unwrap_or_default();
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::to_owned)
    };
    let name = field("server_name").unwrap_or_else(|| "redis".to_owned());
    let version = field(&format!("{name}_version")).or_else(|| field("redis_version"));
    Ok(format!("{name} {}", version.unwrap_or_default()))
}

fn conclude(tour: &Tour, options: &Options) -> Result {
    let page = &tour.page;
    page.blank()?;
    if !options.load {
        page.done(&format!(
            "{} claims were checked, and all hold.",
            page.claims()
        ))?;
        page.dim(
            "Next: the same under load, with --load. How the application does it: examples/tour/app.rs",
        )?;
    }
    page.blank()
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
