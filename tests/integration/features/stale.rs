//! Stale values: served while one reload runs, and when it fails.

use std::{sync::Arc, time::Duration};

use larder::{Error, Levels};

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get, gets, is},
    gated::{Call, Gated, When},
    policy::{MINUTE, soft, stale},
    wait::holds,
    world::World,
};

#[tokio::test]
async fn stale_value_is_served_at_once_while_one_reload_runs_over_all_processes() {
    for policy in [stale(), stale().levels(Levels::L2)] {
        let world = Aging::new();
        let (one, other) = (world.cache(&policy).await, world.cache(&policy).await);
        Source::open().read(&one, "k", "old").await.unwrap();
        assert_eq!(get(&other, "k").await.as_deref(), Some("old"));
        world.advance(11);
        let (reload, never) = (Source::gated(), Source::gated());
        assert_eq!(reload.read(&one, "k", "new").await.unwrap(), "old");
        reload.gate.reached().await;
        for _ in 0..10 {
            assert_eq!(reload.read(&one, "k", "new").await.unwrap(), "old");
            assert_eq!(never.read(&other, "k", "never").await.unwrap(), "old");
        }
        assert_eq!(
            get(&one, "k").await,
            None,
            "who does not load is served nothing stale"
        );
        reload.gate.open();
        is(&one, "k", "new").await;
        is(&other, "k", "new").await;
        assert_eq!((reload.loads(), never.loads()), (1, 0), "{policy:?}");
        assert_eq!((one.stats().stale_hits, other.stats().stale_hits), (11, 10));
    }
}

#[tokio::test]
async fn stale_value_without_l2_is_served_while_one_reload_runs() {
    let world = Aging::new();
    let cache = world.local(&stale()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let reload = Source::gated();
    for _ in 0..10 {
        assert_eq!(reload.read(&cache, "k", "new").await.unwrap(), "old");
    }
    reload.gate.open();
    is(&cache, "k", "new").await;
    assert_eq!(reload.loads(), 1);
    world.advance(21);
    assert!(
        Source::open().fail(&cache, "k").await.is_err(),
        "past its stale time it is gone"
    );
}

#[tokio::test]
async fn real_server_keeps_a_value_past_its_ttl_and_says_so_by_its_pttl() {
    let world = World::new().await;
    let cache: Items = world.cache(&stale()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    let rest = world.server.command(&["TTL", "item:k"]).await.unwrap();
    assert!(
        matches!(rest, larder_testkit::Reply::Integer(1195..=1200)),
        "{rest:?}"
    );
    world
        .server
        .command(&["EXPIRE", "item:k", "600"])
        .await
        .unwrap();
    let reload = Source::gated();
    // The push that follows the change of its life empties L1.
    gets(&cache, "k", None).await;
    assert_eq!(reload.read(&cache, "k", "new").await.unwrap(), "old");
    reload.gate.open();
    is(&cache, "k", "new").await;
    assert_eq!(reload.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn soft_timeout_gives_a_quick_load_its_chance_and_a_slow_one_goes_on() {
    let world = Aging::new();
    let cache = world.cache(&soft()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    assert_eq!(
        Source::open().read(&cache, "k", "quick").await.unwrap(),
        "quick",
        "it was in time"
    );
    world.advance(11);
    let slow = Source::gated();
    let began = tokio::time::Instant::now();
    assert_eq!(slow.read(&cache, "k", "slow").await.unwrap(), "quick");
    assert_eq!(began.elapsed(), Duration::from_millis(200));
    for _ in 0..10 {
        assert_eq!(slow.read(&cache, "k", "slow").await.unwrap(), "quick");
    }
    assert_eq!(
        began.elapsed(),
        Duration::from_millis(200),
        "the time counts from the load's beginning"
    );
    slow.gate.open();
    is(&cache, "k", "slow").await;
    assert_eq!(slow.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn failed_reload_serves_the_stale_value_and_is_not_tried_again_before_its_pause_is_over() {
    for policy in [stale(), soft(), stale().levels(Levels::L2)] {
        let world = Aging::new();
        let cache = world.cache(&policy).await;
        Source::open().read(&cache, "k", "old").await.unwrap();
        world.advance(11);
        let source = Source::open();
        assert_eq!(source.fail(&cache, "k").await.unwrap(), "old");
        holds("it has failed", || cache.stats().load_errors == 1).await;
        let mut pauses = Vec::new();
        for failures in 2..6 {
            let began = tokio::time::Instant::now();
            while source.loads() < failures {
                assert_eq!(source.fail(&cache, "k").await.unwrap(), "old");
                tokio::time::advance(Duration::from_millis(50)).await;
            }
            pauses.push(began.elapsed());
            let many = u64::try_from(failures).unwrap();
            holds("it has failed again", || cache.stats().load_errors == many).await;
        }
        assert!(
            pauses[0] >= Duration::from_millis(700) && pauses[3] > 2 * pauses[0],
            "{pauses:?}"
        );
        world.advance(10);
        let late = source.fail(&cache, "k").await;
        assert!(
            matches!(late, Err(Error::Load { .. })),
            "past its stale time there is only the error: {late:?}"
        );
    }
}

/// P28 stale-only-while-current: what is invalidated is a key, though keys share cells.
#[tokio::test(start_paused = true)]
async fn stale_value_is_served_after_another_key_of_its_cell_was_invalidated() {
    let world = Aging::new();
    let cache = world.local(&soft()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    let cell = |key: &larder_core::Key| key.hash().0 % (1 << 16);
    let mut others = (0..).map(|n| n.to_string());
    let other = others
        .find(|other| cell(&cache.key(other.as_str())) == cell(&cache.key("k")))
        .unwrap();
    cache.invalidate(other).await.unwrap();
    world.advance(11);
    assert_eq!(Source::open().fail(&cache, "k").await.unwrap(), "old");
}

#[tokio::test(start_paused = true)]
async fn pause_for_the_reload_of_another_process_ends_with_it() {
    let world = Aging::new();
    let (one, other) = (world.cache(&stale()).await, world.cache(&stale()).await);
    Source::open().read(&one, "k", "old").await.unwrap();
    world.advance(11);
    let source = Source::gated();
    assert_eq!(source.read(&one, "k", "new").await.unwrap(), "old");
    source.gate.reached().await;
    let claims = Source::gated();
    assert_eq!(claims.read(&other, "k", "never").await.unwrap(), "old");
    for _ in 0..20 {
        tokio::task::yield_now().await; // it finds the lease taken
    }
    source.gate.open();
    is(&one, "k", "new").await;
    is(&other, "k", "new").await;
    assert_eq!(claims.read(&other, "k", "never").await.unwrap(), "new");
    world.advance(11);
    let next = Source::open();
    assert_eq!(next.read(&other, "k", "next").await.unwrap(), "new");
    next.gate.reached().await;
    is(&other, "k", "next").await;
    assert_eq!((next.loads(), claims.loads()), (1, 0));
}

/// A reload for which nobody waits is worth nothing if it cannot be stored.
#[tokio::test]
async fn reload_that_is_always_overtaken_is_given_up() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let cache = world
        .cache_on(remote.clone(), &stale().levels(Levels::L2))
        .await;
    let write = |value: &str| {
        world
            .server
            .write("item:k", format!("\"{value}\""), Some(5 * MINUTE))
    };
    write("stale");
    let claims = [(); 3].map(|()| remote.gate(Call::Claim, When::Before));
    let source = Source::gated();
    assert_eq!(source.read(&cache, "k", "never").await.unwrap(), "stale");
    for (n, claim) in claims.iter().enumerate() {
        claim.reached().await;
        write(&format!("stale {n}"));
        claim.open();
    }
    let next = Source::open();
    holds("the next one is begun", || {
        futures_util::FutureExt::now_or_never(next.read(&cache, "k", "new"));
        next.loads() > 0
    })
    .await;
    assert_eq!(source.loads(), 0);
}

#[tokio::test(start_paused = true)]
async fn process_that_finds_a_reload_under_way_does_not_ask_again() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let (one, other) = (
        world.cache(&stale()).await,
        world.cache_on(remote.clone(), &stale()).await,
    );
    Source::open().read(&one, "k", "old").await.unwrap();
    world.advance(11);
    let source = Source::gated();
    source.read(&one, "k", "new").await.unwrap();
    source.gate.reached().await;
    for _ in 0..10 {
        assert_eq!(source.read(&other, "k", "never").await.unwrap(), "old");
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    // One look to find the value, one for its reload: then L1 has it as stale as it is.
    assert_eq!((remote.calls(Call::Claim), remote.calls(Call::Get)), (1, 1));
    source.gate.open();
    is(&other, "k", "new").await;
}

#[tokio::test(start_paused = true)]
async fn reload_that_did_not_fail_makes_the_next_pause_short_again() {
    let world = Aging::new();
    let cache = world.cache(&soft()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    for _ in 0..5 {
        world.advance(11);
        let source = Source::open();
        assert_eq!(source.fail(&cache, "k").await.unwrap(), "old");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(source.read(&cache, "k", "old").await.unwrap(), "old");
        assert_eq!(source.loads(), 2, "a second is enough");
    }
}
