//! Each reading call counts once, in exactly one of the seven numbers.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use larder::{Cache, Clock, Larder, ManualClock, MemoryServer, Stats, TtlTable};
use larder_testkit::Gate;
use tokio::task::JoinSet;

use crate::support::{Items, larders};

const TABLE: &str = r#"
    [item]
    ttl = "10s"
    jitter = "0%"
    negative_ttl = "5s"
    stale_for = "10s"
    refresh_ahead = "80%"
    load_timeout = "50ms"
    max_wait = "50ms"

    [shared]
    ttl = "10s"
    levels = "l2"
    max_loads = 1
    load_timeout = "50ms"
    max_wait = "5ms"
"#;

/// One of the calls that a reader may make, of this key.
async fn call(cache: &Cache<String, String>, what: u8, key: u64) -> u64 {
    let fails = what.is_multiple_of(5);
    let load = move || async move {
        tokio::task::yield_now().await;
        match (fails, key % 4) {
            (true, _) => Err(io::Error::other("database is down")),
            (false, 0) => Ok(None),
            (false, _) => Ok(Some(format!("value {key}"))),
        }
    };
    let many = move |keys: Vec<String>| async move {
        match fails {
            true => Err(io::Error::other("database is down")),
            false => Ok(keys
                .into_iter()
                .map(|key| (key, "many".to_owned()))
                .collect::<Vec<_>>()),
        }
    };
    // An empty key is refused, and counts all the same.
    let name = if key == 9 {
        String::new()
    } else {
        key.to_string()
    };
    let names = [name.clone(), "1".to_owned(), "2".to_owned()];
    match what {
        0..2 => drop(cache.get(&name).await),
        2..6 => drop(cache.get_or_load(&name, load).await),
        6..8 => drop(cache.find_or_load(&name, load).await),
        8 => drop(
            cache
                .get_or_load(&name, std::future::pending::<io::Result<String>>)
                .await,
        ),
        9 => drop(cache.refresh(&name, load).await),
        10..12 => {
            drop(cache.get_many(&names).await);
            return 3;
        }
        12..15 => {
            drop(cache.get_or_load_many(&names, many).await);
            return 3;
        }
        15 => {
            let loading = cache.loading_many((), move |(), keys| many(keys));
            drop(loading.window(Duration::from_millis(1)).get(&name).await);
        }
        _ => drop(cache.loading((), move |(), _| load()).find(&name).await),
    }
    1
}

/// The numbers of a policy after random calls, and how many calls these were.
async fn play(
    seed: u64,
    server: &MemoryServer,
    (clock, time): (&Clock, &ManualClock),
    policy: &str,
) -> (Stats, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let store = Arc::new(server.connect());
    let builder = Larder::builder()
        .ttl_table(TtlTable::from_toml(TABLE).unwrap())
        .clock(clock.clone());
    let builder = if random.bool() {
        builder.remote_store(store.clone())
    } else {
        builder
    };
    let cache: Cache<String, String> = builder.build().await.unwrap().cache(policy).unwrap();
    let (mut calls, mut all) = (JoinSet::new(), 0);
    for _ in 0..60 {
        let (called, what, key) = (cache.clone(), random.u8(..17), random.u64(1..10));
        calls.spawn(async move { call(&called, what, key).await });
        match random.u8(..12) {
            0 => time.advance(Duration::from_secs(random.u64(..12))),
            1 => cache
                .invalidate(&random.u64(1..9).to_string())
                .await
                .unwrap(),
            2 => store.disconnect(),
            3 => store.reconnect(),
            4..8 => tokio::task::yield_now().await,
            8 => {
                while let Some(ended) = calls.join_next().await {
                    all += ended.unwrap();
                }
            }
            _ => {}
        }
    }
    while let Some(ended) = calls.join_next().await {
        all += ended.unwrap();
    }
    (cache.stats(), all)
}

#[tokio::test(start_paused = true)]
async fn every_call_counts_once_whatever_happens() {
    let mut sum = Stats::default();
    for seed in 0..40 {
        let (clock, time) = Clock::manual();
        let server = MemoryServer::new(clock.clone());
        for policy in ["item", "shared"] {
            let (stats, calls) = play(seed, &server, (&clock, &time), policy).await;
            assert_eq!(stats.calls(), calls, "seed {seed}, {policy}: {stats:?}");
            sum = sum + stats;
        }
    }
    let kinds = [
        sum.l1_hits,
        sum.l2_hits,
        sum.stale_hits,
        sum.loaded,
        sum.joined,
        sum.absent,
        sum.errors,
    ];
    assert!(
        kinds.iter().all(|count| *count > 20),
        "each kind of end was met: {kinds:?}"
    );
}

/// A thousand callers of a missing key: one loads, the others join it, and all are misses.
#[tokio::test(start_paused = true)]
async fn callers_that_join_a_load_are_misses_like_the_one_that_loads() {
    for larder in larders().await {
        let (cache, gate): (Items, _) = (larder.cache("item").unwrap(), Gate::new());
        let mut callers = JoinSet::new();
        for _ in 0..1000 {
            let (cache, gate) = (cache.clone(), gate.clone());
            let load = move || async move {
                gate.pass().await;
                Ok::<_, Infallible>("value".to_owned())
            };
            callers.spawn(async move { cache.get_or_load(1, load).await.unwrap() });
        }
        gate.reached().await;
        gate.open();
        assert_eq!(callers.join_all().await.len(), 1000);
        let stats = cache.stats();
        assert_eq!(
            (stats.loaded, stats.joined, stats.loads),
            (1, 999 - stats.l1_hits, 1)
        );
        assert_eq!(
            (stats.calls(), stats.misses()),
            (1000, 1000 - stats.l1_hits)
        );
        cache.get(2).await.unwrap();
        assert_eq!((cache.stats().absent, cache.stats().calls()), (1, 1001));
    }
}
