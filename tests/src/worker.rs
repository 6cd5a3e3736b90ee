//! A process of its own with a larder, driven line by line: `worker <redis url>`, then on standard
//! input `<id> get|load|storm|storm-bytes|hang-load|hang-write|die-owing <policy> <key> …`. Answers
//! begin with the id of their line.
#![allow(clippy::print_stdout, reason = "the parent reads the standard output")]

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{Cache, Key, Larder, RedisConfig, TtlTable};
use larder_lock::{LoadLimits, SharedBytes};
use larder_redis::RedisStore;
use larder_tests::FolderOutbox;
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let url = std::env::args().nth(1).ok_or("usage: worker <redis url>")?;
    let table = TtlTable::from_toml(larder_tests::TABLE)?;
    let larder = Larder::builder()
        .ttl_table(table)
        .redis(url.clone())
        .build()
        .await?;
    let store = RedisStore::connect(RedisConfig::new(url)).await?;
    let bytes = Arc::new(SharedBytes::new(
        Arc::new(store),
        Duration::from_secs(60),
        LoadLimits::default(),
    ));
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    // The parent ends the process by closing its input, or by a signal.
    while let Some(line) = lines.next_line().await? {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let [id, verb, policy, key, rest @ ..] = words.as_slice() else {
            return Err(io::Error::other(format!("not understood: {line}")).into());
        };
        if verb == "storm-bytes" {
            tokio::spawn(storm_bytes(
                bytes.clone(),
                id.clone(),
                format!("{policy}:{key}"),
                rest.to_vec(),
            ));
            continue;
        }
        let cache = larder.cache(policy)?;
        tokio::spawn(obey(
            cache,
            id.clone(),
            verb.clone(),
            key.clone(),
            rest.to_vec(),
        ));
    }
    Ok(())
}

async fn obey(
    cache: Cache<String, String>,
    id: String,
    verb: String,
    key: String,
    rest: Vec<String>,
) {
    let number = |n: usize| {
        rest.get(n)
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let answer = match verb.as_str() {
        "get" => format!("{:?}", cache.get(key.as_str()).await),
        "load" => {
            let value = rest.first().cloned().unwrap_or_default();
            format!(
                "{:?}",
                cache
                    .get_or_load(key.as_str(), || async { Ok::<_, Infallible>(value) })
                    .await
            )
        }
        "storm" => {
            storm(
                cache,
                id.clone(),
                key,
                number(0),
                Duration::from_millis(number(1)),
            )
            .await
        }
        "hang-load" => {
            let load = cache.get_or_load(key.as_str(), hang(format!("{id} loading")));
            format!("{:?}", load.await)
        }
        "hang-write" => {
            let write = cache.write_through(key.as_str(), hang(format!("{id} writing")));
            format!("{:?}", write.await)
        }
        // The database write has committed, with this entry. The process gets no further.
        "die-owing" => {
            let outbox = FolderOutbox::new(rest.first().cloned().unwrap_or_default());
            match outbox.record(1, &cache.key(key.as_str()).to_string()) {
                Ok(()) => println!("{id} committed"),
                Err(error) => println!("{id} {error}"),
            }
            std::future::pending().await
        }
        other => format!("no such verb: {other}"),
    };
    println!("{id} {answer}");
}

/// A loader or writer that prints this line, and never ends.
fn hang(line: String) -> impl FnOnce() -> Pending + Send + 'static {
    move || {
        println!("{line}");
        std::future::pending()
    }
}

type Pending = std::future::Pending<Result<String, Infallible>>;

/// Asks for the bytes of one key with many tasks at once, through the stampede lock alone. Prints
/// the number of tasks that were served.
async fn storm_bytes(bytes: Arc<SharedBytes>, id: String, key: String, rest: Vec<String>) {
    let number = |n: usize| {
        rest.get(n)
            .and_then(|word| word.parse::<u64>().ok())
            .unwrap_or(0)
    };
    let (takes, loads) = (
        Duration::from_millis(number(1)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..number(0) {
        let (bytes, key, loads) = (bytes.clone(), Key::from_stored_name(&key), loads.clone());
        storm.spawn(async move {
            let load = move || async move {
                loads.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(takes).await;
                Ok::<_, Infallible>(b"value".to_vec())
            };
            bytes
                .get_or_load(&key, load)
                .await
                .map(|value| value == "value")
        });
    }
    let good = storm
        .join_all()
        .await
        .into_iter()
        .filter(|served| matches!(served, Ok(true)))
        .count();
    println!(
        "{id} served {good}, loads {}",
        loads.load(Ordering::Relaxed)
    );
}

/// Asks for one key with many tasks at once. Prints when the loader ends, and when all are served.
async fn storm(
    cache: Cache<String, String>,
    id: String,
    key: String,
    tasks: u64,
    takes: Duration,
) -> String {
    let key: Arc<str> = key.into();
    let mut storm = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (cache, id, key) = (cache.clone(), id.clone(), key.clone());
        storm.spawn(async move {
            let load = move || async move {
                tokio::time::sleep(takes).await;
                println!("{id} loaded");
                Ok::<_, Infallible>("value".to_owned())
            };
            cache
                .get_or_load(&*key, load)
                .await
                .map(|value| *value == "value")
        });
    }
    let good = storm
        .join_all()
        .await
        .into_iter()
        .filter(|served| matches!(served, Ok(true)))
        .count();
    format!("served {good}, loads {}", cache.stats().loads)
}
