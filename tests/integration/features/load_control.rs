//! How many loads the database must bear, and what happens when the policy allows none.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{Error, OnOutage};
use larder_core::{LeaseStore, Replacing, Token, Track};
use larder_testkit::Gate;
use larder_ttl::PolicyBuilder;

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get},
    gated::{Call, Gated, When},
    policy::{MINUTE, SECOND, builder_of, ms, policy},
    redis::config,
    wait::{BOUND, holds, start},
    world::World,
};

/// One load at a time, for which others wait 50 ms.
fn crowded() -> PolicyBuilder {
    policy()
        .max_loads(1)
        .max_wait(ms(50))
        .stale_for(10 * MINUTE)
        .soft_timeout(5 * SECOND)
}

/// A database that knows how many loads run, and ran at most, at once.
#[derive(Clone, Default)]
struct Load {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Load {
    async fn run(self) -> Result<String, Infallible> {
        let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        Ok("value".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mass_invalidation_of_hot_keys_runs_no_more_loads_than_the_row_allows() {
    const KEYS: usize = 10_000;
    let world = World::new().await;
    let larder = world
        .larder_of(&[policy().max_loads(3).max_wait(MINUTE)])
        .await;
    let cache: Items = larder.cache("item").unwrap();
    for round in 0..2 {
        let load = Load::default();
        let reading: Vec<_> = (0..KEYS)
            .map(|key| {
                let (cache, load) = (cache.clone(), load.clone());
                tokio::spawn(async move { cache.get_or_load(key.to_string(), || load.run()).await })
            })
            .collect();
        for reading in reading {
            assert_eq!(*reading.await.unwrap().unwrap(), "value");
        }
        let (most, all) = (
            load.most.load(Ordering::SeqCst),
            load.all.load(Ordering::SeqCst),
        );
        assert!(
            most <= 3 && all == KEYS,
            "round {round}: {most} at once, {all} in all"
        );
        larder
            .invalidate((0..KEYS).map(|key| cache.key(key.to_string())))
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn load_that_finds_no_room_in_time_is_an_error_that_says_so() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let cache = world.cache_in(has_l2, &crowded()).await;
        let source = Source::gated();
        let first = {
            let (cache, source) = (cache.clone(), source.clone());
            start(async move { source.read(&cache, "first", "value").await })
        };
        source.gate.reached().await;
        let began = tokio::time::Instant::now();
        let second = source.read(&cache, "second", "value").await;
        assert!(
            matches!(&second, Err(Error::TooManyLoads { .. })),
            "{second:?}"
        );
        assert!(second.unwrap_err().to_string().contains("max_loads"));
        assert!(
            began.elapsed() < Duration::from_millis(60),
            "{:?}",
            began.elapsed()
        );
        source.gate.open();
        assert_eq!(first.await.unwrap().unwrap(), "value");
        assert_eq!(
            source.read(&cache, "second", "value").await.unwrap(),
            "value",
            "there is room again"
        );
        assert_eq!(source.loads(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn load_that_finds_no_room_serves_the_stale_value() {
    let world = Aging::new();
    let cache = world.cache(&crowded()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let source = Source::gated();
    let first = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "first", "value").await })
    };
    source.gate.reached().await;
    assert_eq!(source.read(&cache, "k", "new").await.unwrap(), "old");
    source.gate.open();
    first.await.unwrap().unwrap();
}

/// P1 stamp-before-read: the stamp is taken anew after the wait, so who comes after an invalidation
/// joins the load that has yet to begin.
#[tokio::test(start_paused = true)]
async fn load_that_waited_for_its_turn_is_joined_after_an_invalidation() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let cache = world.cache_in(has_l2, &crowded()).await;
        let (first, second) = (Source::gated(), Source::gated());
        let read = |source: &Source, key: &'static str| {
            let (cache, source) = (cache.clone(), source.clone());
            start(async move { source.read(&cache, key, "value").await })
        };
        let holding = read(&first, "first");
        first.gate.reached().await;
        let settle = async || {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        };
        let queued = read(&second, "k");
        settle().await;
        cache.invalidate("k").await.unwrap();
        first.gate.open();
        second.gate.reached().await;
        let late = read(&second, "k");
        settle().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        second.gate.open();
        for read in [holding, queued, late] {
            assert_eq!(read.await.unwrap().unwrap(), "value", "with L2: {has_l2}");
        }
    }
}

#[tokio::test]
async fn load_that_waits_for_a_lease_or_stores_its_value_leaves_its_place_to_others() {
    let world = Aging::new();
    let one_at_a_time = policy().max_loads(1).max_wait(MINUTE);
    let remote = Gated::new(Arc::new(world.server.connect()));
    let (cache, other) = (
        world.cache_on(remote.clone(), &one_at_a_time).await,
        world.cache(&one_at_a_time).await,
    );
    let held = Source::gated();
    let read = |cache: &Items, source: &Source, key: &'static str| {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, key, "value").await })
    };
    let holding = read(&other, &held, "held");
    held.gate.reached().await;
    let waiting = read(&cache, &held, "held");
    holds("it finds the lease taken", || {
        remote.calls(Call::Claim) == 1
    })
    .await;
    assert_eq!(
        Source::open().read(&cache, "a", "value").await.unwrap(),
        "value"
    );
    let commit = remote.gate(Call::Commit, When::Before);
    let storing = read(&cache, &Source::open(), "stored");
    commit.reached().await;
    assert_eq!(
        Source::open().read(&cache, "b", "value").await.unwrap(),
        "value"
    );
    commit.open();
    held.gate.open();
    for read in [holding, waiting, storing] {
        assert_eq!(read.await.unwrap().unwrap(), "value");
    }
}

#[tokio::test(start_paused = true)]
async fn loads_without_a_lease_are_as_few_as_others() {
    let world = Aging::new();
    let cache = world.cache(&crowded()).await;
    let remote = world.server.connect();
    for key in ["item:a", "item:b"] {
        remote
            .claim(
                key,
                &Token::new(),
                Duration::from_secs(60),
                Replacing::Nothing,
                Track::Value,
            )
            .await
            .unwrap();
    }
    let source = Source::gated();
    let loading = ["a", "b"].map(|key| {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, key, "value").await })
    });
    source.gate.reached().await;
    tokio::time::advance(Duration::from_secs(1)).await;
    source.gate.open();
    let mut crowded = 0;
    for loading in loading {
        match loading.await.unwrap() {
            Ok(value) => assert_eq!(value, "value"),
            Err(error) => crowded += usize::from(matches!(error, Error::TooManyLoads { .. })),
        }
    }
    assert_eq!((source.loads(), crowded), (1, 1));
}

/// A caller that is gone leaves its place in the queue.
#[tokio::test]
async fn waiting_load_that_nobody_wants_any_more_is_not_run() {
    let world = Aging::new();
    let cache = world.cache(&policy().max_loads(3).max_wait(MINUTE)).await;
    let source = Source::gated();
    let running: Vec<_> = ["a", "b", "c"]
        .map(|key| {
            let (cache, source) = (cache.clone(), source.clone());
            start(async move { source.read(&cache, key, "value").await })
        })
        .into();
    source.gate.reached_by(3).await;
    let waiting = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "d", "value").await })
    };
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    source.gate.open();
    for running in running {
        running.await.unwrap().unwrap();
    }
    assert_eq!(
        Source::open().read(&cache, "d", "value").await.unwrap(),
        "value"
    );
    assert_eq!(source.loads(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_row_gets_the_error_before_the_database_is_touched() {
    let mut world = World::new().await;
    let larder = builder_of(&[policy().on_outage(OnOutage::Fail)]);
    let larder = larder
        .redis_config(config(world.server.url()))
        .build()
        .await
        .unwrap();
    let cache: Items = larder.cache("item").unwrap();
    assert_eq!(
        Source::open().read(&cache, "k", "value").await.unwrap(),
        "value"
    );
    world.server.kill();
    holds("the loss of both lanes is noticed", || {
        larder.stats().lanes_lost >= 2
    })
    .await;
    let source = Source::open();
    let read = source.read(&cache, "k", "value").await;
    assert!(matches!(read, Err(Error::Store { .. })), "{read:?}");
    let gate = Gate::opened();
    let arrivals = gate.clone();
    let writer = || async move {
        gate.pass().await;
        Ok::<_, Infallible>("written".to_owned())
    };
    let written = cache.write_through("k", writer).await;
    assert!(matches!(written, Err(Error::Store { .. })), "{written:?}");
    assert_eq!((source.loads(), arrivals.arrivals()), (0, 0));
    world.server.restart().await.unwrap();
    let give_up = tokio::time::Instant::now() + BOUND;
    while source.read(&cache, "k", "value").await.is_err() {
        assert!(tokio::time::Instant::now() < give_up, "it does not heal");
        tokio::task::yield_now().await;
    }
    assert!(get(&cache, "k").await.is_some());
}

#[tokio::test(start_paused = true)]
async fn reload_that_nobody_waits_for_does_not_queue_before_those_who_have_nothing() {
    let world = Aging::new();
    let cache = world
        .cache(
            &policy()
                .max_loads(1)
                .max_wait(MINUTE)
                .stale_for(10 * MINUTE),
        )
        .await;
    for key in 0..20 {
        Source::open()
            .read(&cache, &format!("old{key}"), "old")
            .await
            .unwrap();
    }
    world.advance(11);
    let source = Source::gated();
    let running = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "running", "value").await })
    };
    source.gate.reached().await;
    for key in 0..20 {
        assert_eq!(
            source
                .read(&cache, &format!("old{key}"), "new")
                .await
                .unwrap(),
            "old"
        );
    }
    let cold = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "cold", "value").await })
    };
    for _ in 0..50 {
        tokio::task::yield_now().await; // all have asked for a place
    }
    source.gate.open();
    assert_eq!(
        (
            running.await.unwrap().unwrap(),
            cold.await.unwrap().unwrap()
        ),
        ("value".into(), "value".into())
    );
    assert_eq!(source.loads(), 2, "the stale ones are left for later");
}
