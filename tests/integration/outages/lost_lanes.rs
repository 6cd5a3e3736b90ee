//! Lanes that are lost: what was read through one is out of date at once, and nothing is read
//! through its successor before what could not be sent has been.

use std::sync::{Arc, Mutex, OnceLock, Weak};

use futures_util::FutureExt;
use larder::{Levels, StoreError};
use larder_core::{Key, LaneIndex, LaneState, Lanes, Push, PushListener, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::{Client, Direction, Gate, Proxy, RedisServer, Reply};
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, gets, load, slow_load, start_load, value},
    policy::{builder, builder_of, named, policy},
    redis::config,
    wait::{BOUND, holds},
    world::{World, cache_on, process_of},
};

async fn change(cache: &Items, key: &str, verb: &str) {
    match verb {
        "write_through" => drop(cache.write_through(key, || value("new")).await.unwrap()),
        "write_around" => drop(cache.write_around(key, || value("new")).await.unwrap()),
        "insert" => cache.insert(key, "new".to_owned()).await.unwrap(),
        _ => cache.invalidate(key).await.unwrap(),
    }
}

/// P10 loss-told-before-successor: nothing that was read through a lost lane is served, and
/// P11 unsent-goes-first: what could not be sent is done first.
#[tokio::test(flavor = "multi_thread")]
async fn write_during_an_outage_is_seen_by_all_after_it() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let store = Arc::new(RedisStore::connect(config(proxy.url())).await.unwrap());
    let larder = builder().remote_store(store.clone()).build().await.unwrap();
    let (cut_off, connected): (Items, _) = (larder.cache("item").unwrap(), world.items().await);
    for (n, verb) in ["write_through", "write_around", "invalidate", "insert"]
        .into_iter()
        .enumerate()
    {
        let key = format!("k{n}");
        load(&connected, &key, "old").await;
        gets(&cut_off, &key, Some("old")).await;
        proxy.refuse(true);
        proxy.cut();
        holds("it is cut off", || {
            LaneIndex::all(2).all(|lane| store.lane_state(lane) == LaneState::Down)
        })
        .await;
        let start = Instant::now();
        change(&cut_off, &key, verb).await;
        assert!(
            start.elapsed() < BOUND / 2,
            "{verb} took {:?}",
            start.elapsed()
        );
        assert_ne!(get(&cut_off, &key).await.as_deref(), Some("old"), "{verb}");
        assert_eq!(
            world.l2(&format!("item:{key}")).await.as_deref(),
            Some("\"old\""),
            "nothing was sent"
        );
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

/// P13 silence-is-not-health: also the store says so.
#[tokio::test(flavor = "multi_thread")]
async fn lost_lane_is_down_until_it_is_connected_again() {
    let mut server = RedisServer::start().await.unwrap();
    let store = RedisStore::connect(config(server.url()).lanes(1))
        .await
        .unwrap();
    assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Tracking);
    server.pause().unwrap();
    holds("a paused server is noticed", || {
        store.lane_state(LaneIndex(0)) == LaneState::Down
    })
    .await;
    let refused = store.get("k").now_or_never().expect("it waits");
    assert!(
        matches!(refused, Err(StoreError::Unreachable { .. })),
        "{refused:?}"
    );
    server.resume().unwrap();
    holds("it is connected again", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    server.restart().await.unwrap();
    holds("and after a restart", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    let give_up = Instant::now() + BOUND;
    while store.get("k").await.is_err() {
        assert!(Instant::now() < give_up);
    }
}

/// Notes what a lane can do whenever it is told that everything read through it is out of date.
#[derive(Debug, Default)]
struct Watcher {
    store: OnceLock<Weak<RedisStore>>,
    seen: Mutex<Vec<LaneState>>,
}

impl PushListener for Watcher {
    fn on_push(&self, push: Push<'_>) {
        if let (Push::Lane(lane), Some(store)) = (push, self.store.get().and_then(Weak::upgrade)) {
            self.seen.lock().unwrap().push(store.lane_state(lane));
        }
    }
}

impl Watcher {
    fn of(store: &Arc<RedisStore>) -> Arc<Self> {
        let watcher = Arc::new(Self::default());
        watcher.store.set(Arc::downgrade(store)).unwrap();
        let listener: Weak<dyn PushListener> = Arc::downgrade(&watcher) as _;
        store.subscribe(listener);
        watcher
    }

    fn seen(&self) -> Vec<LaneState> {
        self.seen.lock().unwrap().clone()
    }
}

/// P10 loss-told-before-successor: a connection is handed out only after everything read through
/// its predecessor is out of date, and a lost one is out of reach before that is said.
/// P31 kept-only-while-away: what was loaded without a connection is out of date after it was
/// handed out.
#[tokio::test]
async fn lane_is_down_when_what_was_read_through_it_is_said_to_be_out_of_date() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let store = Arc::new(RedisStore::connect_lazy(config(proxy.url()).lanes(1)).unwrap());
    let watcher = Watcher::of(&store); // on one thread, so nothing has happened yet
    holds("it is connected", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    let connected = watcher.seen();
    assert_eq!(
        connected,
        [LaneState::Down, LaneState::Tracking],
        "before it was handed out, and once more"
    );
    proxy.refuse(true);
    proxy.stall(Direction::ToClient, true); // so that no end of the connection announces its loss
    let lost = store.get("k").await;
    assert!(matches!(lost, Err(StoreError::TimedOut { .. })), "{lost:?}");
    let seen = watcher.seen().split_off(connected.len());
    assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == LaneState::Down));
}

/// P10 loss-told-before-successor: what was loaded during an outage is not served once pushes could
/// have told better.
#[tokio::test(flavor = "multi_thread")]
async fn value_loaded_in_an_outage_is_looked_for_again_after_it() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let (clock, _hand) = larder::Clock::manual();
    let (larder, cache) =
        process_of(builder().redis_config(config(proxy.url())).clock(clock)).await;
    proxy.refuse(true);
    proxy.cut();
    holds("it is cut off", || {
        format!("{larder:?}").contains("Down") // the store's own words
    })
    .await;
    load(&cache, "k", "old").await;
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("old"),
        "L1 has it, and its clock stands still"
    );
    world
        .items()
        .await
        .insert("k", "new".to_owned())
        .await
        .unwrap();
    proxy.refuse(false);
    gets(&cache, "k", Some("new")).await;
}

/// P11 unsent-goes-first: the lane is back only when what could not be sent has been done.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_read_through_a_lane_before_what_could_not_be_sent() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let store = RedisStore::connect(config(proxy.url()).lanes(1))
        .await
        .unwrap();
    server.command(&["SET", "k", "old"]).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    holds("it is cut off", || {
        store.lane_state(LaneIndex(0)) == LaneState::Down
    })
    .await;
    assert_eq!(
        store
            .invalidate(&Key::from_stored_name("k"), None)
            .await
            .unwrap(),
        larder_core::Invalidated::Deferred
    );
    server
        .command(&["CLIENT", "PAUSE", "60000", "WRITE"])
        .await
        .unwrap(); // reads are answered, scripts are not
    proxy.refuse(false);
    let before = proxy.connections();
    holds("it connects again", || proxy.connections() >= before + 2).await;
    assert!(store.get("k").await.is_err(), "the old value could be read");
    server.command(&["CLIENT", "UNPAUSE"]).await.unwrap();
    holds("it is back", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    assert_eq!(store.get("k").await.unwrap(), None);
}

/// Waits until at least a quarter of the keys `k0`, `k1`, ... is gone, and returns these. The lane
/// is stalled then.
async fn sent_in_part(proxy: &Proxy, foreign: &mut Client, keys: usize) -> Vec<String> {
    let mut sent = Vec::new();
    while sent.len() < keys / 4 {
        sent.clear();
        proxy.stall(Direction::ToClient, true);
        for n in 0..keys {
            let key = format!("k{n}");
            if foreign.command(&["EXISTS", &key]).await.unwrap() == Reply::Integer(0) {
                sent.push(key);
            }
        }
        if sent.len() < keys / 4 {
            proxy.stall(Direction::ToClient, false);
        }
    }
    sent
}

/// P11 unsent-goes-first: a key that is invalidated again while its first invalidation is being
/// sent is not forgotten with it.
#[tokio::test(flavor = "multi_thread")]
async fn key_invalidated_again_while_it_is_being_sent_does_not_come_back() {
    const KEYS: usize = 1500;
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let config = config(proxy.url()).lanes(1).command_timeout(BOUND);
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    store
        .invalidate(&Key::from_stored_name("warm"), None)
        .await
        .unwrap();
    let mut foreign = server.client().await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    holds("it is cut off", || {
        store.lane_state(LaneIndex(0)) == LaneState::Down
    })
    .await;
    for n in 0..KEYS {
        foreign
            .command(&["SET", &format!("k{n}"), "old"])
            .await
            .unwrap();
        store
            .invalidate(&Key::from_stored_name(format!("k{n}").as_str()), None)
            .await
            .unwrap();
    }
    proxy.refuse(false);
    let sent = sent_in_part(&proxy, &mut foreign, KEYS).await;
    // Another process fills in the old values; then our database write ends, and we invalidate
    // again.
    let mut again = tokio::task::JoinSet::new();
    for key in sent {
        foreign.command(&["SET", &key, "old"]).await.unwrap();
        let store = store.clone();
        again.spawn(async move {
            store
                .invalidate(&Key::from_stored_name(key.as_str()), None)
                .await
        });
    }
    proxy.stall(Direction::ToClient, false);
    for done in again.join_all().await {
        done.unwrap();
    }
    holds("it is back", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    assert_eq!(
        server.command(&["KEYS", "k*"]).await.unwrap(),
        Reply::Array(vec![])
    );
}

/// P10 loss-told-before-successor: what lives in this process alone has nothing to fear from Redis.
#[tokio::test(flavor = "multi_thread")]
async fn policy_of_l1_alone_survives_the_loss_of_redis() {
    let world = World::new().await;
    let store = Arc::new(
        RedisStore::connect(config(world.server.url()))
            .await
            .unwrap(),
    );
    let policies = [policy(), named("local").levels(Levels::L1)];
    let larder = builder_of(&policies)
        .remote_store(store.clone())
        .build()
        .await
        .unwrap();
    let (local, item): (Items, Items) = (
        larder.cache("local").unwrap(),
        larder.cache("item").unwrap(),
    );
    load(&local, "k", "value").await;
    load(&item, "k", "value").await;
    world.server.command(&["FLUSHALL"]).await.unwrap();
    gets(&item, "k", None).await;
    world.server.pause().unwrap();
    holds("both lanes are lost", || {
        LaneIndex::all(2).all(|lane| store.lane_state(lane) == LaneState::Down)
    })
    .await;
    assert_eq!(get(&local, "k").await.as_deref(), Some("value"));
    local.invalidate("k").await.unwrap();
    assert_eq!(get(&local, "k").await, None);
    world.server.resume().unwrap();
}

/// P16 only-for-earlier-callers: what a process loads while it is cut off may be older than what
/// another one has written since.
#[tokio::test(flavor = "multi_thread")]
async fn load_of_a_process_that_is_cut_off_is_not_for_those_who_came_later() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let store = Arc::new(RedisStore::connect(config(proxy.url())).await.unwrap());
    let in_l2 = policy().levels(Levels::L2);
    let (here, there) = (
        cache_on(store.clone(), &in_l2).await,
        world.cache(&in_l2).await,
    );
    proxy.refuse(true);
    proxy.cut();
    let is_down = |lane| store.lane_state(lane) == LaneState::Down;
    holds("it is cut off", || {
        LaneIndex::all(store.lanes()).all(is_down)
    })
    .await;
    let gate = Gate::new();
    let first = slow_load(&here, "k", "old", &gate);
    gate.reached().await;
    there.write_through("k", || value("new")).await.unwrap();
    let later = start_load(&here, "k", "new");
    gate.open();
    assert_eq!(**first.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**later.await.unwrap().as_ref().unwrap(), "new");
}
