//! Sentinels name the master, and the store follows when they name another one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use larder::StoreError;
use larder_core::{LaneState, Lanes, ValueStore};
use larder_redis::{RedisConfig, RedisStore};
use larder_testkit::{RedisSentinels, RedisServer};
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    calls::{Items, gets, load, value},
    cluster::config,
    policy::{builder, ms},
    store::are,
    wait::{BOUND, holds},
};

/// A process, with its store for a look into it.
async fn process(url: String) -> (Arc<RedisStore>, Items) {
    let store = Arc::new(RedisStore::connect(config(url)).await.unwrap());
    let larder = builder().remote_store(store.clone()).build();
    (store, larder.await.unwrap().cache("item").unwrap())
}

/// Loads and writes of every kind, until they are told to stop. None may fail.
fn load_on(items: &Items, name: &'static str, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (items, stop) = (items.clone(), stop.clone());
        tasks.spawn(async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let key = format!("{name}-{task}-{}", n % 50);
                load(&items, &key, "loaded").await;
                if n % 5 == 0 {
                    let written = items.write_through(&*key, || value("written")).await;
                    assert_eq!(&**written.unwrap(), "written");
                }
                n += 1;
                tokio::time::sleep(ms(1)).await; // a machine that is kept busy looks dead to the sentinels
            }
        });
    }
    tasks
}

async fn ends(mut tasks: JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn value_at(server: &RedisServer, key: &str) -> Option<String> {
    server.command(&["GET", key]).await.unwrap().text()
}

/// Reads and writes go on while the master is gone, L2 is back after the failover, and two
/// processes then agree as before.
#[tokio::test(flavor = "multi_thread")]
async fn master_that_is_killed_under_load_is_replaced() {
    let mut sentinels = RedisSentinels::start().await.unwrap();
    let (here, one) = process(sentinels.url()).await;
    let (there, other) = process(sentinels.url()).await;
    let stop = Arc::default();
    let load_here = load_on(&one, "one", &stop);
    let load_there = load_on(&other, "other", &stop);
    let before = Instant::now();
    sentinels.servers[0].kill();
    assert_eq!(sentinels.switched_from(0).await.unwrap(), 1);
    let switched = before.elapsed();
    holds("both are back", || is_back(&here) && is_back(&there)).await;
    println!(
        "a failover after {switched:?}, L2 after {:?}",
        before.elapsed()
    );
    stop.store(true, Ordering::Relaxed);
    ends(load_here).await;
    ends(load_there).await;
    for n in 0..20 {
        let key = format!("k{n}");
        load(&one, &key, "old").await;
        gets(&other, &key, Some("old")).await;
        other.write_through(&*key, || value("new")).await.unwrap();
        gets(&one, &key, Some("new")).await;
        let stored = value_at(&sentinels.servers[1], &format!("item:{key}")).await;
        assert_eq!(stored.as_deref(), Some("\"new\""));
    }
}

fn is_back(store: &RedisStore) -> bool {
    store.stats().unsent == 0 && are(store, LaneState::Tracking)
}

/// A store that nobody asks anything, and that pings nobody, is told by the sentinels.
#[tokio::test(flavor = "multi_thread")]
async fn idle_store_follows_the_announcement() {
    let sentinels = RedisSentinels::start().await.unwrap();
    let idle = config(sentinels.url())
        .ping_interval(10 * BOUND)
        .probe_interval(10 * BOUND);
    let store = RedisStore::connect(idle).await.unwrap();
    sentinels.servers[0].pause().unwrap(); // connections stay open, and nothing is answered
    assert_eq!(sentinels.switched_from(0).await.unwrap(), 1);
    let new = &sentinels.servers[1];
    let give_up = Instant::now() + BOUND;
    while trackers(new).await < 2 {
        assert!(Instant::now() < give_up, "it has not heard");
    }
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    sentinels.servers[0].resume().unwrap();
}

async fn trackers(server: &RedisServer) -> usize {
    let list = server.command(&["CLIENT", "LIST"]).await.unwrap();
    list.text().unwrap().matches(" flags=t ").count()
}

/// The announcement is not all: a lost connection, or a server that takes no writes, has the
/// sentinels asked again.
#[tokio::test(flavor = "multi_thread")]
async fn store_that_hears_no_announcement_follows_by_itself() {
    let mut sentinels = RedisSentinels::start().await.unwrap();
    for sentinel in 0..3 {
        let words = ["ACL", "SETUSER", "default", "-subscribe"];
        let said = sentinels.command(sentinel, &words).await.unwrap();
        assert_eq!(said.text().as_deref(), Some("OK"));
    }
    let store = RedisStore::connect(config(sentinels.url())).await.unwrap();
    sentinels.kill_sentinel(0); // two are enough
    sentinels.servers[0].kill();
    assert_eq!(sentinels.switched_from(0).await.unwrap(), 1);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    assert_eq!(store.get("k").await.unwrap(), None);
}

/// An old master that is alive is a replica after the failover, and is left.
#[tokio::test(flavor = "multi_thread")]
async fn failover_on_purpose_is_followed_under_load() {
    let sentinels = RedisSentinels::start().await.unwrap();
    let (store, items) = process(sentinels.url()).await;
    let stop = Arc::default();
    let load = load_on(&items, "one", &stop);
    sentinels.fail_over().await.unwrap();
    assert_eq!(sentinels.switched_from(0).await.unwrap(), 1);
    let give_up = Instant::now() + BOUND;
    while trackers(&sentinels.servers[1]).await < 2 || !is_back(&store) {
        assert!(Instant::now() < give_up, "it stays at the old one");
    }
    stop.store(true, Ordering::Relaxed);
    ends(load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_have_a_password_of_their_own() {
    let options = RedisServer::builder().password("of-the-servers");
    let sentinels = RedisSentinels::start_as(&options, Some("of-the-sentinels"))
        .await
        .unwrap();
    let url = sentinels.url();
    let known = config(url.clone()).sentinel_password("of-the-sentinels");
    let store = RedisStore::connect(known).await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), None);
    let error = RedisStore::connect(config(url.clone())).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        matches!(error, StoreError::Unauthorized { .. }) && !text.contains("of-the-servers"),
        "{text}"
    );
}

/// Over TLS: to the sentinels, and to the servers, which the sentinels name by other ports.
#[tokio::test(flavor = "multi_thread")]
async fn sentinels_and_servers_are_reached_over_tls_and_through_an_address_map() {
    if !larder_testkit::has_tls() {
        return println!("left out: the server is built without TLS");
    }
    let options = RedisServer::builder().tls();
    let sentinels = RedisSentinels::start_as(&options, None).await.unwrap();
    let ports: Vec<_> = sentinels
        .servers
        .iter()
        .map(|server| (server.port(), server.tls_port().unwrap()))
        .collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let config = config(sentinels.tls_url().unwrap())
        .root_certificate(sentinels.certificates())
        .address_map(move |_, port| {
            count.fetch_add(1, Ordering::Relaxed);
            let mapped = ports.iter().find(|(plain, _)| *plain == port);
            ("localhost".to_owned(), mapped.map_or(port, |(_, tls)| *tls))
        });
    let store = RedisStore::connect(config).await.unwrap();
    assert_eq!(store.get("k").await.unwrap(), None);
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn service_that_no_sentinel_knows_is_named() {
    let sentinels = RedisSentinels::start().await.unwrap();
    let url = sentinels.url().replace("mymaster", "other");
    let error = RedisStore::connect(RedisConfig::new(url))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
}

/// The address of a sentinel, written like that of a server.
#[tokio::test(flavor = "multi_thread")]
async fn sentinel_is_no_server() {
    let sentinels = RedisSentinels::start().await.unwrap();
    let url = sentinels.url().replace("redis+sentinel", "redis");
    let (first, _) = url.split_once(',').unwrap();
    let error = RedisStore::connect(config(first.to_owned()))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("redis+sentinel://"), "{error}");
}
