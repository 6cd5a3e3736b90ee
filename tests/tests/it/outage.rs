//! Redis is not there, goes away, comes back, is deaf or slow.

use std::time::Duration;

use larder::{Cache, Error, RedisConfig, StoreError};
use larder_core::{LaneState, RemoteStore};
use larder_redis::RedisStore;
use larder_testkit::{Direction, Proxy, RedisServer};
use tokio::time::Instant;

use crate::world::{BOUND, World, builder, get, gets, holds, load, value};

fn config(url: impl Into<String>) -> RedisConfig {
    RedisConfig::new(url)
        .connect_timeout(Duration::from_millis(300))
        .command_timeout(Duration::from_millis(300))
        .ping_interval(Duration::from_millis(50))
}

async fn items_through(url: &str) -> Cache<String> {
    builder().redis_config(config(url)).build().await.unwrap().cache("item").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_redis_at_start_is_an_error_with_its_address() {
    let mut server = RedisServer::start().await.unwrap();
    server.kill();
    let url = format!("redis://me:s3cret@{}", server.addr());
    let error = builder().redis_config(config(url)).build().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(matches!(error, Error::Store(StoreError::Unreachable { .. })), "{text}");
    assert!(text.contains(&server.addr()) && !text.contains("s3cret"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_accepts_and_says_nothing_is_an_error_in_time() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    proxy.stall(Direction::ToClient, true);
    let start = Instant::now();
    let error = builder().redis_config(config(proxy.url())).build().await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(error.to_string().contains(&proxy.addr()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_an_error_that_does_not_show_it() {
    let server = RedisServer::builder().password("right").start().await.unwrap();
    for url in [format!("redis://:s3cret@{}", server.addr()), format!("redis://{}", server.addr())] {
        let error = builder().redis_config(config(url)).build().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, Error::Store(StoreError::Unauthorized { .. })), "{text}");
        assert!(text.contains(&server.addr()) && !text.contains("s3cret"), "{text}");
    }
    let cache = items_through(&server.url()).await;
    assert_eq!(load(&cache, "k", "value").await, "value");
}

#[tokio::test(flavor = "multi_thread")]
async fn start_without_redis_serves_from_the_loader_and_connects_later() {
    let mut server = RedisServer::start().await.unwrap();
    server.kill();
    let larder =
        builder().redis_config(config(server.url())).start_without_redis(true).build().await.unwrap();
    let cache: Cache<String> = larder.cache("item").unwrap();
    let start = Instant::now();
    assert_eq!(load(&cache, "k", "value").await, "value");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    server.restart().await.unwrap();
    let mut n = 0;
    let give_up = Instant::now() + BOUND;
    while server.command(&["DBSIZE"]).await.unwrap() == larder_testkit::Reply::Integer(0) {
        assert!(Instant::now() < give_up, "it does not connect");
        n += 1;
        load(&cache, &format!("k{n}"), "value").await;
    }
}

/// P10: nothing that was read through a lost lane is served, and P11: what could not be sent is done first.
#[tokio::test(flavor = "multi_thread")]
async fn write_during_an_outage_is_seen_by_all_after_it() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.server.addr()).await.unwrap();
    let (cut_off, connected) = (items_through(&proxy.url()).await, world.items().await);
    for (n, verb) in ["write_through", "write_around", "invalidate", "insert"].into_iter().enumerate() {
        let key = format!("k{n}");
        load(&connected, &key, "old").await;
        gets(&cut_off, &key, Some("old")).await;
        proxy.refuse(true);
        proxy.cut();
        let start = Instant::now();
        match verb {
            "write_through" => drop(cut_off.write_through(key.as_str(), || value("new")).await.unwrap()),
            "write_around" => drop(cut_off.write_around(key.as_str(), || value("new")).await.unwrap()),
            "insert" => cut_off.insert(key.as_str(), "new".to_owned()).await.unwrap(),
            _ => cut_off.invalidate(key.as_str()).await.unwrap(),
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{verb} took {:?}", start.elapsed());
        assert_ne!(get(&cut_off, &key).await.as_deref(), Some("old"), "{verb}");
        assert_eq!(world.l2(&format!("item:{key}")).await.as_deref(), Some("\"old\""), "nothing was sent");
        proxy.refuse(false);
        gets(&connected, &key, None).await;
        assert_ne!(get(&cut_off, &key).await.as_deref(), Some("old"), "{verb}");
        // Wait until it is connected again.
        let give_up = Instant::now() + BOUND;
        while world.l2(&format!("item:{key}")).await.is_none() {
            assert!(Instant::now() < give_up, "{verb}: not connected again");
            cut_off.invalidate(key.as_str()).await.unwrap();
            load(&cut_off, &key, "after").await;
        }
        gets(&connected, &key, Some("after")).await;
    }
}

/// P10: the push for a write was lost with its connection.
#[tokio::test(flavor = "multi_thread")]
async fn push_lost_with_its_connection_leaves_nothing_stale() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.server.addr()).await.unwrap();
    let (deaf, writer) = (items_through(&proxy.url()).await, world.items().await);
    for round in 0..10 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        writer.insert("k", old.clone()).await.unwrap();
        gets(&deaf, "k", Some(&old)).await;
        proxy.stall(Direction::ToClient, true);
        let written = value(&new);
        writer.write_through("k", || written).await.unwrap();
        proxy.cut();
        proxy.stall(Direction::ToClient, false);
        gets(&deaf, "k", Some(&new)).await;
        for _ in 0..50 {
            assert_ne!(get(&deaf, "k").await, Some(old.clone()));
        }
    }
}

/// P13: a half-open connection does not say that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn deaf_connection_is_found_by_its_ping() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.server.addr()).await.unwrap();
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
    println!("deaf connection noticed after {:?}, ping every 50 ms, limit 300 ms", start.elapsed());
}

/// P13: also the store says so.
#[tokio::test(flavor = "multi_thread")]
async fn lost_lane_is_down_until_it_is_connected_again() {
    let mut server = RedisServer::start().await.unwrap();
    let store = RedisStore::connect(config(server.url()).lanes(1)).await.unwrap();
    assert_eq!(store.lane_state(0), LaneState::Tracking);
    server.pause().unwrap();
    holds("a paused server is noticed", || store.lane_state(0) == LaneState::Down).await;
    let start = Instant::now();
    assert!(matches!(store.get("k").await, Err(StoreError::Unreachable { .. })));
    assert!(start.elapsed() < Duration::from_millis(100), "at once: {:?}", start.elapsed());
    server.resume().unwrap();
    holds("it is connected again", || store.lane_state(0) == LaneState::Tracking).await;
    server.restart().await.unwrap();
    holds("and after a restart", || store.lane_state(0) == LaneState::Tracking).await;
    let give_up = Instant::now() + BOUND;
    while store.get("k").await.is_err() {
        assert!(Instant::now() < give_up);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_redis_does_not_keep_a_reader_from_its_loader() {
    let world = World::new().await;
    let cache = items_through(&world.server.url()).await;
    load(&cache, "k", "value").await;
    world.server.pause().unwrap();
    let start = Instant::now();
    assert_eq!(load(&cache, "other", "value").await, "value");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    world.server.resume().unwrap();
}

/// P12: tracking is not assumed; without it, L1 is short-lived.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_refuses_tracking_makes_l1_short_lived() {
    let server = RedisServer::builder()
        .args(&["--user", "default", "on", "nopass", "~*", "&*", "+@all", "-client|tracking"])
        .start()
        .await
        .unwrap();
    let store = RedisStore::connect(config(server.url())).await.unwrap();
    assert_eq!(store.lane_state(0), LaneState::Untracked);
    let (clock, hand) = larder::Clock::manual();
    let larder = builder().redis(server.url()).clock(clock).build().await.unwrap();
    let cache: Cache<String> = larder.cache("item").unwrap();
    load(&cache, "k", "old").await;
    server.command(&["SET", "item:k", "\"new\""]).await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"), "nothing tells of the change");
    hand.advance(cache.row().degraded_l1_ttl());
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_that_cannot_be_remembered_are_errors() {
    let mut server = RedisServer::start().await.unwrap();
    let store = RedisStore::connect(config(server.url()).lanes(1).max_pending(2)).await.unwrap();
    server.kill();
    holds("the lane is down", || store.lane_state(0) == LaneState::Down).await;
    for key in ["a", "b", "a"] {
        assert_eq!(store.invalidate(key, None).await.unwrap(), larder_core::Invalidated::Deferred);
    }
    let full = store.invalidate("c", None).await.unwrap_err();
    assert!(matches!(full, StoreError::TooManyPending { pending: 2, .. }), "{full}");
}

/// P17: the push of a write is handled before the reply to a read that the server answered later.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_are_handled_before_later_replies() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    let observer = world.store().await;
    let mut foreign = world.server.client().await.unwrap();
    for round in 0..200 {
        let value = format!("{round}");
        load(&one, "k", &value).await;
        gets(&other, "k", Some(&value)).await;
        foreign.command(&["DEL", "item:k"]).await.unwrap();
        // A read that the server answers after the deletion, on the lane of the key: `k` again, as a new flight.
        other.get_or_load("k", || crate::world::value("next")).await.unwrap();
        drop(observer.get("item:k").await);
        foreign.command(&["DEL", "item:k"]).await.unwrap();
        gets(&one, "k", None).await;
        gets(&other, "k", None).await;
    }
}
