//! A process dies after its database write has committed and before its invalidation: an outbox
//! remembers what it owed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use larder::{Key, Levels, Outbox, OutboxEntry, OutboxError};
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::{Direction, Gate, Reply};
use larder_tests::FolderOutbox;
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, gets, load},
    log::Log,
    policy::{builder, named, policy},
    redis::config,
    wait::{BOUND, holds},
    worker::Worker,
    world::{World, process_of},
};

/// An outbox in memory, with gates where a test wants to come between.
#[derive(Default)]
struct Memory {
    entries: Mutex<Vec<OutboxEntry>>,
    /// Stands in the way of each confirmation.
    confirming: Option<Gate>,
    fails: AtomicBool,
}

impl Memory {
    fn with(keys: &[&str]) -> Arc<Self> {
        let outbox = Self::default();
        keys.iter().for_each(|key| outbox.record(key));
        Arc::new(outbox)
    }

    fn record(&self, key: &str) {
        let mut entries = self.entries.lock().unwrap();
        let id = entries.last().map_or(1, |last| last.id + 1);
        entries.push(OutboxEntry {
            id,
            key: key.to_owned(),
        });
    }

    fn ids(&self) -> Vec<i64> {
        self.entries
            .lock()
            .unwrap()
            .iter()
            .map(|entry| entry.id)
            .collect()
    }

    fn check(&self) -> Result<(), OutboxError> {
        if self.fails.load(Ordering::Acquire) {
            Err("the database is away".into())
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn unconfirmed(&self, after: i64, limit: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        self.check()?;
        let entries = self.entries.lock().unwrap();
        Ok(entries
            .iter()
            .filter(|entry| entry.id > after)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError> {
        if let Some(gate) = &self.confirming {
            gate.pass().await;
        }
        self.entries
            .lock()
            .unwrap()
            .retain(|entry| !ids.contains(&entry.id));
        Ok(())
    }
}

async fn is_down(store: &RedisStore) {
    holds("it is cut off", || {
        LaneIndex::all(store.lanes()).all(|lane| store.lane_state(lane) == LaneState::Down)
    })
    .await;
}

/// A process of its own dies of SIGKILL.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_owed_is_done_by_another() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let outbox = FolderOutbox::new(folder.path());
    let (draining, other) = (world.larder().await, world.items().await);
    let here: Items = draining.cache("item").unwrap();
    load(&here, "k", "old").await;
    gets(&other, "k", Some("old")).await;
    let mut worker = Worker::start(&world.server.url()).await;
    worker
        .tell(&format!("w die-owing item k {}", folder.path().display()))
        .await;
    assert_eq!(worker.line().await, "w committed");
    worker.kill().await;
    for cache in [&here, &other] {
        assert_eq!(
            get(cache, "k").await.as_deref(),
            Some("old"),
            "nobody has invalidated it"
        );
    }
    assert_eq!(draining.drain_outbox(&outbox).await.unwrap(), 1);
    assert_eq!(world.l2("item:k").await, None);
    assert_eq!(get(&here, "k").await, None);
    gets(&other, "k", None).await;
    assert_eq!(outbox.entries().unwrap(), []);
    assert_eq!(
        draining.drain_outbox(&outbox).await.unwrap(),
        0,
        "it is confirmed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn process_that_starts_does_what_a_dead_one_owed_and_goes_on() {
    let world = World::new().await;
    let other = world.items().await;
    load(&other, "k1", "old").await;
    load(&other, "k2", "old").await;
    let outbox = Memory::with(&["item:k1"]);
    let larder = builder()
        .redis(world.server.url())
        .outbox(outbox.clone())
        .outbox_interval(Duration::from_millis(5))
        .build()
        .await
        .unwrap();
    gets(&other, "k1", None).await;
    holds("it is confirmed", || outbox.ids().is_empty()).await;
    assert_eq!(get(&other, "k2").await.as_deref(), Some("old"));
    outbox.record("item:k2");
    gets(&other, "k2", None).await;
    holds("it is confirmed", || outbox.ids().is_empty()).await;
    holds("it is counted", || larder.stats().outbox_drained == 2).await;
    // A cache outlives its larder, and so does its drain.
    let cache: Items = larder.cache("item").unwrap();
    drop(larder);
    load(&other, "k1", "old").await;
    outbox.record("item:k1");
    gets(&other, "k1", None).await;
    drop(cache);
    holds("the task ends with the larder", || {
        Arc::strong_count(&outbox) == 1
    })
    .await;
}

/// P11 unsent-goes-first: nothing that is merely remembered counts as done.
#[tokio::test(flavor = "multi_thread")]
async fn drain_while_redis_is_down_confirms_nothing_and_does_so_after_it() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let store = Arc::new(RedisStore::connect(config(proxy.url())).await.unwrap());
    let outbox = Memory::with(&["item:a", "item:b"]);
    let cut_off = builder().remote_store(store.clone()).build().await.unwrap();
    let (here, connected): (Items, _) = (cut_off.cache("item").unwrap(), world.items().await);
    for key in ["a", "b", "c"] {
        load(&connected, key, "old").await;
    }
    // It does not know yet, so it sends what is lost; and then it knows.
    proxy.stall(Direction::ToServer, true);
    assert_eq!(cut_off.drain_outbox(&*outbox).await.unwrap(), 0);
    proxy.refuse(true);
    proxy.cut();
    proxy.stall(Direction::ToServer, false);
    is_down(&store).await;
    assert_eq!(cut_off.drain_outbox(&*outbox).await.unwrap(), 0);
    outbox.record("item:c");
    let recorded = outbox.entries.lock().unwrap()[2].clone();
    assert_eq!(
        cut_off
            .confirm_written(&*outbox, &[recorded])
            .await
            .unwrap(),
        0
    );
    assert_eq!(outbox.ids(), [1, 2, 3]);
    assert_eq!(world.l2("item:a").await.as_deref(), Some("\"old\""));
    proxy.refuse(false);
    let (give_up, mut confirmed) = (Instant::now() + BOUND, 0);
    while confirmed < 3 {
        assert!(Instant::now() < give_up, "not connected again");
        confirmed += cut_off.drain_outbox(&*outbox).await.unwrap();
        tokio::task::yield_now().await;
    }
    for key in ["a", "b", "c"] {
        assert_eq!(world.l2(&format!("item:{key}")).await, None);
        assert_eq!(get(&here, key).await, None);
        gets(&connected, key, None).await;
    }
    assert_eq!(outbox.ids(), [] as [i64; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn backlog_that_cannot_be_done_takes_no_room_that_writes_need() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let config = config(proxy.url()).max_unsent(10).lanes(1);
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    let (larder, cache) = process_of(builder().remote_store(store.clone())).await;
    proxy.refuse(true);
    proxy.cut();
    is_down(&store).await;
    cache.invalidate("k").await.unwrap();
    assert_eq!(larder.stats().unsent, 1);
    let keys: Vec<String> = (0..1200).map(|n| format!("item:{n}")).collect();
    let outbox = Memory::with(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(larder.drain_outbox(&*outbox).await.unwrap(), 0);
    assert_eq!(larder.stats().unsent, 1);
    proxy.refuse(false);
    let give_up = Instant::now() + BOUND;
    while !outbox.ids().is_empty() {
        assert!(Instant::now() < give_up, "not connected again");
        larder.drain_outbox(&*outbox).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(larder.stats().outbox_drained, 1200);
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_recorded_during_a_drain_is_not_confirmed_by_it() {
    let world = World::new().await;
    let larder = world.larder().await;
    let gate = Gate::new();
    let outbox = Arc::new(Memory {
        confirming: Some(gate.clone()),
        ..Memory::default()
    });
    outbox.record("item:k");
    let drain = tokio::spawn({
        let (larder, outbox) = (larder.clone(), outbox.clone());
        async move { larder.drain_outbox(&*outbox).await }
    });
    gate.reached().await;
    // The key is invalidated; now somebody reads the old value again, and a later write commits.
    load(&larder.cache("item").unwrap(), "k", "older").await;
    outbox.record("item:k");
    gate.open();
    assert_eq!(drain.await.unwrap().unwrap(), 1);
    assert_eq!(outbox.ids(), [2]);
    assert_eq!(larder.drain_outbox(&*outbox).await.unwrap(), 1);
    assert_eq!(world.l2("item:k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_an_entry_finds_the_levels_of_its_policy() {
    let world = World::new().await;
    let policies = [
        policy(),
        named("local").levels(Levels::L1),
        named("shared").levels(Levels::L2),
    ];
    let larder = world.larder_of(&policies).await;
    let local: Items = larder.cache("local").unwrap();
    load(&local, "k", "old").await;
    // What stands under the names of a policy that is not in L2 belongs to another program.
    for key in ["local:k", "legacy:1", "shared:k:x"] {
        world
            .server
            .command(&["SET", key, "\"other\""])
            .await
            .unwrap();
    }
    world
        .server
        .command(&["LPUSH", "item:list", "x"])
        .await
        .unwrap();
    let too_long = "item:".to_owned() + &"x".repeat(larder_core::MAX_KEY_LEN);
    let outbox = Memory::with(&[
        "local:k",
        "legacy:1",
        "shared:k:x",
        "item:list",
        "",
        &too_long,
    ]);
    assert_eq!(larder.drain_outbox(&*outbox).await.unwrap(), 6);
    assert_eq!(get(&local, "k").await, None);
    assert_eq!(world.l2("local:k").await.as_deref(), Some("\"other\""));
    assert_eq!(
        (world.l2("legacy:1").await, world.l2("shared:k:x").await),
        (None, None)
    );
    assert_eq!(
        world.server.command(&["LLEN", "item:list"]).await.unwrap(),
        Reply::Integer(1)
    );
    // By hand it is no different.
    load(&local, "k", "old").await;
    larder
        .invalidate([Key::from_stored_name("local:k")])
        .await
        .unwrap();
    assert_eq!(get(&local, "k").await, None);
    assert!(world.l2("local:k").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn write_settles_what_it_recorded_and_leaves_the_rest() {
    let world = World::new().await;
    let (larder, other) = (world.larder().await, world.items().await);
    load(&other, "k", "old").await;
    let outbox = Memory::with(&["item:dead", "item:k"]);
    let recorded = outbox.entries.lock().unwrap()[1].clone();
    assert_eq!(
        larder.confirm_written(&*outbox, &[recorded]).await.unwrap(),
        1
    );
    assert_eq!((world.l2("item:k").await, outbox.ids()), (None, vec![1]));
    gets(&other, "k", None).await;
}

#[tokio::test]
async fn outbox_that_fails_is_logged_once_and_counted() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let outbox = Memory::with(&["item:k"]);
    outbox.fails.store(true, Ordering::Release);
    let larder = builder()
        .redis(world.server.url())
        .outbox(outbox.clone())
        .outbox_interval(Duration::from_millis(1))
        .build()
        .await
        .unwrap();
    holds("several have failed", || larder.stats().outbox_errors > 3).await;
    assert_eq!(
        log.count("the outbox cannot be drained"),
        1,
        "{}",
        log.text()
    );
    assert!(
        log.text()
            .contains("the outbox failed: the database is away"),
        "{}",
        log.text()
    );
    let error = larder.drain_outbox(&*outbox).await.unwrap_err();
    assert!(matches!(error, larder::Error::Outbox { .. }), "{error}");
    outbox.fails.store(false, Ordering::Release);
    holds("it is done", || outbox.ids().is_empty()).await;
    holds("it is said", || log.count("drained again") == 1).await;
}
