//! A Redis that answers, and refuses: it takes no writes, is busy, or knows another password. What
//! must be invalidated meanwhile is not lost.

use std::{io, sync::Arc};

use larder::{BreakerState, StoreError};
use larder_core::{Invalidated, LaneIndex, LaneState, Lanes, RemoteEvent, TagStore, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::{Proxy, RedisServer, Reply};
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{
    calls::{Items, gets, load, value},
    policy::builder,
    redis::config,
    store::{Events, are, cut_off, key},
    wait::{BOUND, holds},
    world::{World, cache_of, process_of},
};

/// How a server can take no writes, and how it takes them again.
const REFUSING: [(&str, &[&str], &[&str]); 4] = [
    (
        "OOM",
        &["CONFIG SET maxmemory 1"],
        &["CONFIG SET maxmemory 0"],
    ),
    (
        "READONLY",
        &["REPLICAOF 127.0.0.1 1"],
        &["REPLICAOF NO ONE"],
    ),
    (
        "NOREPLICAS",
        &["CONFIG SET min-replicas-to-write 1"],
        &["CONFIG SET min-replicas-to-write 0"],
    ),
    // It refuses everything, as one does that is loading.
    (
        "MASTERDOWN",
        &[
            "CONFIG SET replica-serve-stale-data no",
            "REPLICAOF 127.0.0.1 1",
        ],
        &[
            "REPLICAOF NO ONE",
            "CONFIG SET replica-serve-stale-data yes",
        ],
    ),
];

async fn tell(server: &RedisServer, commands: &[&str]) {
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let reply = server.command(&words).await.unwrap();
        assert!(!matches!(reply, Reply::Error(_)), "{command}: {reply:?}");
    }
}

async fn loader_takes_its_place(store: &RedisStore, cache: &Items, name: &str) {
    assert_eq!(load(cache, "new", "value").await, "value", "{name}");
    holds("it is left alone", || are(store, LaneState::Down)).await;
    assert_eq!(store.stats().breaker_opened, 1, "{name}");
    // first the lanes are down, then what was read through them is out of date
    gets(cache, "read", None).await;
    assert_eq!(
        load(cache, "read", "newer").await,
        "newer",
        "{name}: from the loader"
    );
}

async fn nothing_old_is_left(world: &World, cache: &Items, name: &str) {
    for key in ["written", "gone"] {
        assert_eq!(
            world.l2(&format!("item:{key}")).await,
            None,
            "{name}: {key}"
        );
    }
    assert_eq!(load(cache, "gone", "new").await, "new", "{name}");
    assert_eq!(
        world.l2("item:gone").await.as_deref(),
        Some("\"new\""),
        "{name}"
    );
}

/// P11 unsent-goes-first, P13 silence-is-not-health: leases and invalidations are writes.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_takes_no_writes_is_replaced_by_the_loader_until_it_does() {
    for (name, break_it, heal_it) in REFUSING {
        let world = World::new().await;
        let store = Arc::new(
            RedisStore::connect(config(world.server.url()))
                .await
                .unwrap(),
        );
        let events = Events::of(&store, None);
        let (larder, cache) = process_of(builder().remote_store(store.clone())).await;
        for key in ["read", "written", "gone"] {
            load(&cache, key, "old").await;
        }
        tell(&world.server, break_it).await;
        loader_takes_its_place(&store, &cache, name).await;
        cache
            .write_through("written", || value("new"))
            .await
            .unwrap();
        cache.invalidate("gone").await.unwrap();
        let tried = events.count(RemoteEvent::HalfOpen) + 2;
        holds("it is tried", || {
            events.count(RemoteEvent::HalfOpen) >= tried
        })
        .await;
        assert_eq!(
            events.count(RemoteEvent::Closed),
            0,
            "{name}: it takes no writes yet"
        );
        // What frees memory is taken, so the trial of its lane sends it.
        let give_up = Instant::now() + BOUND;
        while name == "OOM" && world.l2("item:gone").await.is_some() {
            assert!(Instant::now() < give_up, "it is not sent");
        }
        tell(&world.server, heal_it).await;
        holds("it is used again", || are(&store, LaneState::Tracking)).await;
        assert_eq!(
            (store.stats().unsent, larder.stats().breaker),
            (0, BreakerState::Closed),
            "{name}"
        );
        nothing_old_is_left(&world, &cache, name).await;
    }
}

/// P11 unsent-goes-first: what is refused is not lost, and nothing is read through the lane before
/// it was done.
#[tokio::test(flavor = "multi_thread")]
async fn refused_invalidation_takes_the_lane_down_until_it_is_done() {
    // An invalidation needs no memory.
    for (name, break_it, heal_it) in REFUSING.into_iter().filter(|(name, ..)| *name != "OOM") {
        let server = RedisServer::start().await.unwrap();
        let store = RedisStore::connect(config(server.url())).await.unwrap();
        let events = Events::of(&store, None);
        let tag = async || {
            let order = store.tag_epoch(LaneIndex(0)).await.unwrap();
            store
                .pin_tags(LaneIndex(0), &["t"], order, BOUND)
                .await
                .unwrap()
        };
        assert!(tag().await[0].is_some());
        server.command(&["SET", "item:1", "old"]).await.unwrap();
        tell(&server, break_it).await;
        // Whichever comes first is refused, and the other one finds the lane down.
        let (by_key, by_tag);
        if name == "READONLY" {
            by_tag = store.invalidate_tag("t").await.unwrap();
            by_key = store.invalidate(&key("item", 1), None).await.unwrap();
        } else {
            by_key = store.invalidate(&key("item", 1), None).await.unwrap();
            by_tag = store.invalidate_tag("t").await.unwrap();
        }
        assert_eq!(
            (by_key, by_tag),
            (Invalidated::Deferred, Invalidated::Deferred),
            "{name}"
        );
        holds("it is tried", || events.count(RemoteEvent::HalfOpen) >= 3).await;
        assert!(
            are(&store, LaneState::Down),
            "{name}: what is refused again keeps the lane down"
        );
        assert_eq!(
            store.stats().unsent,
            3,
            "{name}: the key in its lane, the tag in both"
        );
        tell(&server, heal_it).await;
        holds("it is back", || are(&store, LaneState::Tracking)).await;
        assert_eq!(store.get("item:1").await.unwrap(), None, "{name}");
        assert_eq!(
            store.tags(LaneIndex(1), &["t"]).await.unwrap(),
            [None],
            "{name}"
        );
        // A server that was a replica for a while has a new history, and may lack some of the old.
        assert_eq!(
            (store.stats().unsent, store.stats().resent),
            (0, 3 + events.forgotten()),
            "{name}"
        );
        assert!(events.forgotten() == 0 || break_it.contains(&"REPLICAOF 127.0.0.1 1"));
    }
}

/// P11 unsent-goes-first: also where the server takes all other writes, but what is refused for
/// ever keeps nobody from anything else.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_that_will_not_pass_is_forgotten_when_it_is_sent_again() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let store = RedisStore::connect(config(proxy.url())).await.unwrap();
    cut_off(&store, &proxy).await;
    assert_eq!(
        store.invalidate_tag("t").await.unwrap(),
        Invalidated::Deferred
    );
    assert_eq!(
        store.invalidate(&key("item", 1), None).await.unwrap(),
        Invalidated::Deferred
    );
    server.command(&["SET", "item:1", "old"]).await.unwrap();
    tell(&server, &["ACL SETUSER default -time"]).await; // the tag's script fails
    proxy.refuse(false);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    assert_eq!((store.stats().unsent, store.stats().resent), (0, 3));
    assert_eq!(store.get("item:1").await.unwrap(), None);
}

/// P11 unsent-goes-first, P25 clear-leaves-nothing: a clear that is refused when it is sent again
/// keeps the lane down, because callers would otherwise be served what it was to remove.
#[tokio::test(flavor = "multi_thread")]
async fn refused_clear_leaves_the_lane_down_and_everything_remembered() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    // Each key is remembered as a clear of its prefix, and each tag as one of all tags.
    let store = RedisStore::connect(config(proxy.url()).lanes(1).max_unsent(0))
        .await
        .unwrap();
    for (command, prefixes) in [("unlink", 1), ("scan", 1), ("scan", 0)] {
        let events = Events::of(&store, None);
        let resent = store.stats().resent;
        server.command(&["SET", "item:1", "old"]).await.unwrap();
        cut_off(&store, &proxy).await;
        let deferred = match prefixes {
            1 => store.invalidate(&key("item", 1), None).await,
            _ => store.invalidate_tag("t").await,
        };
        assert_eq!(deferred.unwrap(), Invalidated::Deferred);
        tell(&server, &[&format!("ACL SETUSER default -{command}")]).await;
        let tried = events.count(RemoteEvent::HalfOpen) + 3;
        proxy.refuse(false);
        holds("it is tried", || {
            assert!(are(&store, LaneState::Down), "{command}");
            events.count(RemoteEvent::HalfOpen) >= tried
        })
        .await;
        assert_eq!(
            (store.stats().unsent, store.stats().resent),
            (1, resent),
            "{command}"
        );
        tell(&server, &[&format!("ACL SETUSER default +{command}")]).await;
        holds("it is back", || are(&store, LaneState::Tracking)).await;
        assert_eq!(
            (store.stats().unsent, store.stats().resent),
            (0, resent + 1),
            "{command}"
        );
        if prefixes == 1 {
            assert_eq!(store.get("item:1").await.unwrap(), None, "{command}");
        }
    }
}

/// Starts a script that does not end by itself.
async fn keep_busy(server: &RedisServer) -> JoinHandle<io::Result<Reply>> {
    let mut busy = server.client().await.unwrap();
    tokio::spawn(async move { busy.command(&["EVAL", "while true do end", "0"]).await })
}

/// The server is busy, and there is nothing to be sent that could be refused.
async fn tracks_after_a_loss(
    server: &RedisServer,
    proxy: &Proxy,
    store: &RedisStore,
    events: &Events,
) {
    let script = keep_busy(server).await;
    let give_up = Instant::now() + BOUND;
    while !matches!(store.get("k").await, Err(StoreError::Refused { .. })) {
        assert!(Instant::now() < give_up, "it is not busy");
    }
    let lost = store.stats().lanes_lost;
    proxy.cut();
    holds("it is lost", || store.stats().lanes_lost > lost).await;
    let tried = events.count(RemoteEvent::HalfOpen) + 2;
    holds("it is tried", || {
        assert_eq!(
            store.lane_state(LaneIndex(0)),
            LaneState::Down,
            "P12 tracking-never-assumed: nobody would tell it of changes"
        );
        events.count(RemoteEvent::HalfOpen) >= tried
    })
    .await;
    server.command(&["SCRIPT", "KILL"]).await.unwrap();
    script.await.unwrap().unwrap();
    holds("it tracks", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
}

/// P11 unsent-goes-first, P12 tracking-never-assumed: a refusal that a reader would not mind takes
/// the lane down for an invalidation, and a connection whose tracking is refused for now is not
/// taken for one to a server without pushes.
#[tokio::test(flavor = "multi_thread")]
async fn busy_server_loses_no_invalidation_and_tracks_afterwards() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let store = RedisStore::connect(config(proxy.url()).lanes(1))
        .await
        .unwrap();
    let events = Events::of(&store, None);
    for n in 0..10 {
        server
            .command(&["SET", &format!("item:{n}"), "old"])
            .await
            .unwrap();
    }
    tell(&server, &["CONFIG SET lua-time-limit 1"]).await;
    let script = keep_busy(&server).await;
    let give_up = Instant::now() + BOUND;
    loop {
        match store.get("k").await {
            Err(StoreError::Refused { reason, .. }) if reason.contains("BUSY") => break,
            Ok(None) | Err(StoreError::TimedOut { .. } | StoreError::Unreachable { .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < give_up, "it is not busy");
    }
    assert_eq!(
        store.lane_state(LaneIndex(0)),
        LaneState::Tracking,
        "a reader's refusal takes nothing down"
    );
    for n in 0..10 {
        assert_eq!(
            store.invalidate(&key("item", n), None).await.unwrap(),
            Invalidated::Deferred
        );
    }
    holds("it is tried", || events.count(RemoteEvent::HalfOpen) >= 2).await;
    assert_eq!(
        (store.lane_state(LaneIndex(0)), store.stats().unsent),
        (LaneState::Down, 10)
    );
    assert_eq!(
        server.command(&["SCRIPT", "KILL"]).await.unwrap(),
        Reply::Status("OK".to_owned())
    );
    script.await.unwrap().unwrap();
    holds("it is back", || {
        store.lane_state(LaneIndex(0)) != LaneState::Down
    })
    .await;
    assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Tracking);
    assert_eq!((store.stats().unsent, store.stats().resent), (0, 10));
    assert_eq!(
        server.command(&["KEYS", "item:*"]).await.unwrap(),
        Reply::Array(vec![])
    );
    tracks_after_a_loss(&server, &proxy, &store, &events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_after_a_restart_opens_the_breaker_until_it_is_right() {
    let server = RedisServer::builder()
        .password("right")
        .start()
        .await
        .unwrap();
    let store = Arc::new(RedisStore::connect(config(server.url())).await.unwrap());
    let events = Events::of(&store, None);
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    load(&cache, "k", "old").await;
    let mut admin = server.client().await.unwrap();
    admin
        .command(&["CONFIG", "SET", "requirepass", "another"])
        .await
        .unwrap();
    admin
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await
        .unwrap();
    holds("it is tried", || events.count(RemoteEvent::HalfOpen) >= 3).await;
    assert!(are(&store, LaneState::Down) && events.count(RemoteEvent::Closed) == 0);
    cache.invalidate("k").await.unwrap(); // P11 unsent-goes-first
    assert_eq!(load(&cache, "k", "new").await, "new");
    admin
        .command(&["CONFIG", "SET", "requirepass", "right"])
        .await
        .unwrap();
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    assert_eq!(
        server.command(&["EXISTS", "item:k"]).await.unwrap(),
        Reply::Integer(0)
    );
    gets(&cache, "k", None).await;
}
