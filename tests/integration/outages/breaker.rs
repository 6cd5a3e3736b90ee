//! A Redis that hangs is left alone, by all lanes at once, until one of them has tried it.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder::{BreakerState, StoreError};
use larder_core::{
    Invalidated, Key, LaneIndex, LaneState, Lanes, LeaseStore, RemoteEvent, Token, ValueStore,
};
use larder_redis::RedisStore;
use larder_testkit::{Direction, Proxy, RedisServer};
use tokio::time::Instant;

use crate::support::{
    calls::load,
    policy::{SECOND, policy},
    redis::config,
    store::{Events, are, key},
    wait::{BOUND, holds},
    world::{World, cache_on},
};

/// Commands by the server's own count, this one included.
async fn commands(server: &RedisServer) -> u64 {
    let info = server
        .command(&["INFO", "stats"])
        .await
        .unwrap()
        .text()
        .unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

/// A hundred reads are refused and a hundred invalidations are deferred, with nothing sent but the
/// read that has hung.
async fn nothing_is_sent(server: &RedisServer, store: &RedisStore) {
    let before = commands(server).await;
    for n in 0..100 {
        let refused = store.get(&format!("k{n}")).await;
        assert!(
            matches!(refused, Err(StoreError::Unreachable { .. })),
            "{refused:?}"
        );
        assert_eq!(
            store.invalidate(&key("item", n), None).await.unwrap(),
            Invalidated::Deferred
        );
    }
    assert_eq!(commands(server).await, before + 1, "nothing was sent");
    assert_eq!(store.stats().breaker, BreakerState::Open);
}

/// Each trial was one connection, after a pause of at least half of `pause`; the other lanes
/// followed when it had gone well.
fn one_tries_for_all(events: &Events, pause: Duration) {
    let (opened, tried) = (
        events.all(RemoteEvent::Opened),
        events.all(RemoteEvent::HalfOpen),
    );
    let connections = |of: &[(Instant, usize)]| {
        of.iter()
            .map(|(_, connections)| *connections)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (connections(&opened), connections(&tried)),
        (vec![3, 4], vec![3, 4]),
        "one for each trial"
    );
    for (opened, tried) in opened.iter().zip(&tried) {
        assert!(tried.0 - opened.0 >= pause / 2, "{:?}", tried.0 - opened.0);
    }
    assert_eq!(
        connections(&events.all(RemoteEvent::Closed)),
        [5],
        "the others follow"
    );
}

/// Invalidations of which the listener was told: unsent ones, and ones that were sent later.
fn unsent_and_resent(events: &Events) -> (usize, u64) {
    let (mut remembered, mut resent) = (0, 0);
    for (event, ..) in &*events.seen.lock().unwrap() {
        match event {
            RemoteEvent::Unsent { .. } => remembered += 1,
            RemoteEvent::Resent { count } => resent += count,
            _ => {}
        }
    }
    (remembered, resent)
}

/// P13 silence-is-not-health: on one thread, so that nothing happens between an event and the count
/// of connections beside it.
#[tokio::test]
async fn open_breaker_sends_nothing_until_its_time_is_over_and_then_one_tries() {
    const PAUSE: Duration = Duration::from_secs(2);
    let server = RedisServer::start().await.unwrap();
    let proxy = Arc::new(Proxy::start(&server.addr()).await.unwrap());
    let config = config(proxy.url())
        .lanes(3)
        .ping_interval(BOUND)
        .probe_interval(BOUND);
    let config = config.breaker_pause(PAUSE).breaker_max_pause(PAUSE);
    let store = RedisStore::connect(config).await.unwrap();
    let events = Events::of(&store, Some(proxy.clone()));
    assert_eq!(
        (proxy.connections(), store.stats().breaker),
        (3, BreakerState::Closed)
    );

    proxy.stall(Direction::ToClient, true);
    let hung = store.get("k").await;
    assert!(matches!(hung, Err(StoreError::TimedOut { .. })), "{hung:?}");
    holds("all lanes are given up", || are(&store, LaneState::Down)).await;
    nothing_is_sent(&server, &store).await;
    assert_eq!(proxy.connections(), 3, "nobody tried");

    holds("a trial has failed", || {
        events.count(RemoteEvent::Opened) == 2
    })
    .await;
    proxy.stall(Direction::ToClient, false);
    holds("all heal", || are(&store, LaneState::Tracking)).await;
    one_tries_for_all(&events, PAUSE);
    let stats = store.stats();
    assert_eq!(
        (stats.breaker, stats.breaker_opened),
        (BreakerState::Closed, 1)
    );
    assert_eq!(
        (stats.unsent, stats.resent),
        (0, 100),
        "P11 unsent-goes-first: and what could not be sent has been"
    );
    assert_eq!(
        unsent_and_resent(&events),
        (100, 100),
        "and the listener was told"
    );
}

/// P13 silence-is-not-health: a server that answers when it is connected to, and then hangs, costs
/// one time-out and not one for each attempt.
#[tokio::test(flavor = "multi_thread")]
async fn hanging_server_costs_its_callers_one_timeout_in_all() {
    let world = World::new().await;
    // A second, so that only a time-out takes so long, and not a busy machine.
    let config = config(world.server.url()).command_timeout(SECOND);
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    let events = Events::of(&store, None);
    let cache = cache_on(store.clone(), &policy()).await;
    load(&cache, "k", "value").await;
    world
        .server
        .command(&["CLIENT", "PAUSE", "60000", "WRITE"])
        .await
        .unwrap(); // HELLO and reads are answered
    let (mut slow, mut n) = (Vec::new(), 0);
    let give_up = Instant::now() + BOUND;
    while events.count(RemoteEvent::HalfOpen) < 4 {
        assert!(Instant::now() < give_up, "no trials");
        let start = Instant::now();
        assert_eq!(load(&cache, &format!("k{n}"), "value").await, "value");
        if start.elapsed() >= SECOND {
            slow.push((n, start.elapsed()));
        }
        n += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(slow.len(), 1, "of {n} loads: {slow:?}");
    assert!(events.count(RemoteEvent::Closed) == 0 && store.stats().breaker_opened == 1);
    world.server.command(&["CLIENT", "UNPAUSE"]).await.unwrap();
    holds("it is used again", || are(&store, LaneState::Tracking)).await;
    load(&cache, "after", "value").await;
    assert_eq!(world.l2("item:after").await.as_deref(), Some("\"value\""));
}

/// P13 silence-is-not-health: once the server is given up, no lane asks it, also one whose keeper
/// has not heard of it.
#[tokio::test]
async fn server_that_is_given_up_is_not_asked_on_another_lane() {
    let world = World::new().await;
    let store = RedisStore::connect(config(world.server.url()))
        .await
        .unwrap();
    world
        .server
        .command(&["CLIENT", "PAUSE", "60000", "WRITE"])
        .await
        .unwrap();
    let of_lane = |lane| {
        (0..)
            .map(|n| format!("item:{n}"))
            .find(|key| store.lane(key) == lane)
            .unwrap()
    };
    let (token, lease) = (Token::new(), Duration::from_secs(1));
    // There is one thread, and this is one task: nothing else runs between the two calls.
    let first = store.renew(&of_lane(LaneIndex(0)), &token, lease).await;
    let second = store
        .renew(&of_lane(LaneIndex(1)), &token, lease)
        .now_or_never();
    assert!(
        matches!(first, Err(StoreError::TimedOut { .. })),
        "{first:?}"
    );
    assert!(
        matches!(second, Some(Err(StoreError::Unreachable { .. }))),
        "{second:?}"
    );
    world.server.command(&["CLIENT", "UNPAUSE"]).await.unwrap();
}

/// P10 loss-told-before-successor: a lost connection says nothing about the server.
#[tokio::test(flavor = "multi_thread")]
async fn killed_connections_and_refusals_of_one_key_do_not_open_the_breaker() {
    let world = World::new().await;
    let store = RedisStore::connect(config(world.server.url()))
        .await
        .unwrap();
    world.server.command(&["LPUSH", "list", "x"]).await.unwrap();
    for _ in 0..3 {
        let lost = store.stats().lanes_lost;
        world
            .server
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
            .unwrap();
        holds("they are lost", || store.stats().lanes_lost >= lost + 2).await;
        holds("they are replaced", || are(&store, LaneState::Tracking)).await;
        let refused = store.invalidate(&Key::from_stored_name("list"), None).await;
        assert!(
            matches!(refused, Err(StoreError::WrongType { .. })),
            "{refused:?}"
        );
    }
    let stats = store.stats();
    assert_eq!((stats.breaker_opened, stats.unsent), (0, 0));
    assert!(are(&store, LaneState::Tracking));
}
