//! Redis is not there when a process starts, is deaf or slow, or refuses what the process asks for.

use std::{
    fmt::Debug,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder::{Coherence, Error, RedisConfig, StoreError};
use larder_core::{Key, LaneIndex, LaneState, Lanes, Push, PushListener, Track, ValueStore};
use larder_lock::LeaseLock;
use larder_redis::RedisStore;
use larder_testkit::{Direction, Gate, Proxy, RedisServer};
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, gets, load, slow_write, value},
    gated::{Call, Gated},
    policy::builder,
    redis::config,
    wait::{BOUND, holds},
    world::{World, cache_of},
};

async fn items_through(url: &str) -> Items {
    cache_of(builder().redis_config(config(url))).await
}

/// The error of a start with this address, which names the server and shows no password.
async fn refused(url: &str, server: &RedisServer) -> StoreError {
    let error = builder().redis_config(config(url)).build().await;
    let error = error.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains(&server.addr()) && !text.contains("s3cret"),
        "{text}"
    );
    match error {
        Error::Store { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_redis_at_start_is_an_error_with_its_address() {
    let mut server = RedisServer::start().await.unwrap();
    server.kill();
    let error = refused(&format!("redis://me:s3cret@{}", server.addr()), &server).await;
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_accepts_and_says_nothing_is_an_error_in_time() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    proxy.stall(Direction::ToClient, true);
    let start = Instant::now();
    let error = builder()
        .redis_config(config(proxy.url()))
        .build()
        .await
        .unwrap_err();
    assert!(start.elapsed() < BOUND / 2, "{:?}", start.elapsed());
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains(&proxy.addr()), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_an_error_that_does_not_show_it() {
    let server = RedisServer::builder()
        .password("right")
        .start()
        .await
        .unwrap();
    for url in [
        format!("redis://:s3cret@{}", server.addr()),
        format!("redis://{}", server.addr()),
    ] {
        let error = refused(&url, &server).await;
        assert!(
            matches!(error, StoreError::Unauthorized { .. }),
            "{error:?}"
        );
    }
    let cache = items_through(&server.url()).await;
    assert_eq!(load(&cache, "k", "value").await, "value");
}

#[tokio::test(flavor = "multi_thread")]
async fn start_without_redis_serves_from_the_loader_and_connects_later() {
    let mut server = RedisServer::start().await.unwrap();
    server.kill();
    let cache: Items = cache_of(
        builder()
            .redis_config(config(server.url()))
            .start_without_redis(true),
    )
    .await;
    let start = Instant::now();
    assert_eq!(load(&cache, "k", "value").await, "value");
    assert!(start.elapsed() < BOUND / 2, "{:?}", start.elapsed());
    server.restart().await.unwrap();
    let mut n = 0;
    let give_up = Instant::now() + BOUND;
    while server.command(&["KEYS", "item:*"]).await.unwrap() == larder_testkit::Reply::Array(vec![])
    {
        assert!(Instant::now() < give_up, "it does not connect");
        n += 1;
        load(&cache, &format!("k{n}"), "value").await;
    }
}

/// P13 silence-is-not-health: a half-open connection does not say that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn deaf_connection_is_found_by_its_ping() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let (deaf, writer) = (items_through(&proxy.url()).await, world.items().await);
    writer.insert("k", "old".to_owned()).await.unwrap();
    gets(&deaf, "k", Some("old")).await;
    proxy.refuse(true);
    proxy.stall(Direction::ToClient, true);
    writer.write_through("k", || value("new")).await.unwrap();
    let start = Instant::now();
    // Nobody asks anything but L1: only the ping can tell.
    holds("the old value is served no more", || {
        let read = std::pin::pin!(deaf.get("k"));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match read.poll(&mut context) {
            std::task::Poll::Ready(served) => served.unwrap().is_none_or(|served| *served != "old"),
            std::task::Poll::Pending => true,
        }
    })
    .await;
    println!(
        "deaf connection noticed after {:?}, ping every 50 ms, limit 300 ms",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_redis_does_not_keep_a_reader_from_its_loader() {
    let world = World::new().await;
    let cache = items_through(&world.server.url()).await;
    load(&cache, "k", "value").await;
    world.server.pause().unwrap();
    let start = Instant::now();
    assert_eq!(load(&cache, "other", "value").await, "value");
    assert!(start.elapsed() < BOUND / 2, "{:?}", start.elapsed());
    world.server.resume().unwrap();
}

/// P12 tracking-never-assumed: neither tracking nor a subscription is assumed; without both, L1 is
/// short-lived.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_refuses_tracking_and_channels_makes_l1_short_lived() {
    let server = World::refusing(&["-client|tracking", "-subscribe"])
        .await
        .server;
    let store = RedisStore::connect(config(server.url())).await.unwrap();
    assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Untracked);
    let (clock, hand) = larder::Clock::manual();
    let cache: Items = cache_of(builder().redis(server.url()).clock(clock)).await;
    load(&cache, "k", "old").await;
    server.command(&["SET", "item:k", "\"new\""]).await.unwrap();
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("old"),
        "nothing tells of the change"
    );
    hand.advance(cache.policy().degraded_l1_ttl());
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

fn timed_out<T: Debug>(call: Result<T, Error>) {
    assert!(
        matches!(
            call,
            Err(Error::Store {
                source: StoreError::TimedOut { .. },
                ..
            })
        ),
        "{call:?}"
    );
}

/// P9 reply-invalidates-again, P11 unsent-goes-first: what can be neither done nor remembered is an
/// error, before the database is touched.
#[tokio::test(flavor = "multi_thread")]
async fn write_that_cannot_be_remembered_does_not_touch_the_database() {
    let world = World::new().await;
    let gated = Gated::new(world.one_lane().await);
    let cache: Items = cache_of(builder().remote_store(gated.clone())).await;
    load(&cache, "k", "old").await;
    gated.lose_reply(Call::BeginWrite);
    gated.lose_reply(Call::Invalidate);
    let gate = Gate::opened();
    let refused = slow_write(&cache, "new", &gate).await.unwrap();
    timed_out(refused);
    assert_eq!(gate.arrivals(), 0, "the database was not touched");
    load(&cache, "k", "old").await;
    gated.lose_reply(Call::Invalidate);
    let refused = cache.invalidate("k").await;
    timed_out(refused);
    assert_eq!(get(&cache, "k").await, None, "it is gone here all the same");
}

/// P12 tracking-never-assumed: a server or proxy that does not know RESP3 cannot push.
#[tokio::test(flavor = "multi_thread")]
async fn server_without_resp3_is_used_without_tracking() {
    let server = RedisServer::builder()
        .args(&["--rename-command", "HELLO", ""])
        .start()
        .await
        .unwrap();
    for (coherence, state) in [
        (Coherence::Auto, LaneState::Untracked),
        (Coherence::Channel, LaneState::Subscribed),
    ] {
        let config = config(server.url()).coherence(coherence);
        let store = RedisStore::connect(config).await.unwrap();
        assert_eq!(store.lane_state(LaneIndex(0)), state);
    }
    let store = Arc::new(RedisStore::connect(config(server.url())).await.unwrap());
    let cache: Items = cache_of(builder().remote_store(store)).await;
    assert_eq!(load(&cache, "k", "value").await, "value");
    assert_eq!(
        server
            .command(&["GET", "item:k"])
            .await
            .unwrap()
            .text()
            .as_deref(),
        Some("\"value\"")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn longest_time_limits_do_not_panic() {
    let server = RedisServer::start().await.unwrap();
    let config = RedisConfig::new(server.url());
    let config = config
        .connect_timeout(Duration::MAX)
        .command_timeout(Duration::MAX)
        .ping_interval(Duration::MAX);
    let config = config
        .breaker_pause(Duration::MAX)
        .breaker_max_pause(Duration::MAX);
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    let lock = LeaseLock::new(store, Duration::from_secs(1));
    lock.acquire(&Key::from_stored_name("jobs:1"), Duration::MAX)
        .await
        .unwrap()
        .release()
        .await
        .unwrap();
}

/// P11 unsent-goes-first: a key whose prefix is not known is never replaced by a clear, which would
/// be of more than its policy.
#[tokio::test(flavor = "multi_thread")]
async fn invalidations_that_cannot_be_remembered_are_errors() {
    let mut server = RedisServer::start().await.unwrap();
    let store = RedisStore::connect(config(server.url()).lanes(1).max_unsent(2))
        .await
        .unwrap();
    server.kill();
    holds("the lane is down", || {
        store.lane_state(LaneIndex(0)) == LaneState::Down
    })
    .await;
    for key in ["a", "b", "a"] {
        assert_eq!(
            store
                .invalidate(&Key::from_stored_name(key), None)
                .await
                .unwrap(),
            larder_core::Invalidated::Deferred
        );
    }
    let full = store
        .invalidate(&Key::from_stored_name("c"), None)
        .await
        .unwrap_err();
    assert!(
        matches!(full, StoreError::TooManyUnsent { unsent: 2, .. }),
        "{full}"
    );
    assert_eq!(store.stats().unsent, 2);
    server.restart().await.unwrap();
    holds("they are sent", || store.stats().unsent == 0).await;
}

/// Takes its time over what it is told of a value.
#[derive(Debug, Default)]
struct Slow {
    done: AtomicBool,
}

impl PushListener for Slow {
    fn on_push(&self, push: Push<'_>) {
        if let Push::Value(_) = push {
            std::thread::park_timeout(Duration::from_millis(50));
            self.done.store(true, Ordering::SeqCst);
        }
    }
}

/// P17 pushes-before-replies: the push of a write is handled before the reply to a read that the
/// server answered later.
#[tokio::test(flavor = "multi_thread")]
async fn push_is_handled_before_a_later_reply() {
    let server = RedisServer::start().await.unwrap();
    let store = RedisStore::connect(RedisConfig::new(server.url()).lanes(1))
        .await
        .unwrap();
    server.command(&["SET", "k", "first"]).await.unwrap();
    for round in 0..5 {
        let slow = Arc::new(Slow::default());
        let listener: Weak<dyn PushListener> = Arc::downgrade(&slow) as _;
        store.subscribe(listener);
        store.get_with_ttl("k", Track::Value).await.unwrap();
        server
            .command(&["SET", "k", &format!("{round}")])
            .await
            .unwrap();
        assert_eq!(store.get("k").await.unwrap().unwrap(), format!("{round}"));
        assert!(
            slow.done.load(Ordering::SeqCst),
            "a reply has overtaken the push"
        );
    }
}
