//! `Cache::refresh`: a load that begins after the call, whatever the levels have.

use std::{convert::Infallible, sync::Arc};

use larder::Error;
use larder_testkit::Gate;
use tokio::task::JoinHandle;

use crate::support::{
    aging::Aging,
    calls::{Items, get, gets, load, slow_load},
    gated::{Call, Gated, When, gated_cache},
    policy::{builder, ms, policy},
    wait::{holds, start},
    world::{World, cache_of, nowhere},
};

/// Starts a refresh that waits at the gate before its loader returns.
fn refresh(cache: &Items, loaded: &str, gate: &Gate) -> JoinHandle<Result<Arc<String>, Error>> {
    let (cache, loaded, gate) = (cache.clone(), loaded.to_owned(), gate.clone());
    start(async move {
        let loader = move || async move {
            gate.pass().await;
            Ok::<_, Infallible>(loaded)
        };
        cache.refresh("k", loader).await
    })
}

async fn is(refreshed: JoinHandle<Result<Arc<String>, Error>>, expected: &str) {
    assert_eq!(**refreshed.await.unwrap().as_ref().unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_during_a_refresh_is_served_the_old_value_and_all_the_new_one_after_it() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    load(&one, "k", "old").await;
    gets(&other, "k", Some("old")).await;
    let gate = Gate::new();
    let refreshed = refresh(&one, "new", &gate);
    gate.reached().await;
    for cache in [&one, &other] {
        assert_eq!(load(cache, "k", "not this").await, "old");
    }
    gate.open();
    is(refreshed, "new").await;
    assert_eq!(get(&one, "k").await.as_deref(), Some("new"));
    gets(&other, "k", Some("new")).await;
    assert_eq!(world.l2("item:k").await.as_deref(), Some("\"new\""));
}

/// Time stands still but for what the test adds, so that the rest of the lease tells exactly when
/// it was taken.
#[tokio::test(start_paused = true)]
async fn processes_that_refresh_at_once_load_once() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let one = world.cache(&policy()).await;
    let other = world.cache_on(remote.clone(), &policy()).await;
    load(&one, "k", "old").await;
    let claims = remote.gate(Call::Claim, When::Before);
    let late = Gate::opened();
    let waits = refresh(&other, "late", &late);
    claims.reached().await; // it has been asked for, and its claim is on the way
    // Longer than the millisecond in which the server counts.
    tokio::time::advance(ms(2)).await;
    world.advance_by(ms(2));
    let gate = Gate::new();
    let loads = refresh(&one, "new", &gate);
    gate.reached().await;
    claims.open();
    holds("the second claim, which finds the lease taken", || {
        remote.calls(Call::Claim) == 2
    })
    .await;
    gate.open();
    is(loads, "new").await;
    is(waits, "new").await;
    assert_eq!(late.arrivals(), 0, "loads of the other process");
    assert_eq!(get(&other, "k").await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_that_is_asked_for_while_an_older_load_runs_loads_after_it() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for elder in [&one, &other] {
        one.invalidate("k").await.unwrap();
        gets(elder, "k", None).await;
        let gate = Gate::new();
        let older = slow_load(elder, "k", "older", &gate);
        gate.reached().await;
        let newer = Gate::opened();
        let refreshed = refresh(&one, "newer", &newer);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(newer.arrivals(), 0, "one load of a key at a time");
        gate.open();
        assert_eq!(**older.await.unwrap().as_ref().unwrap(), "older");
        is(refreshed, "newer").await;
        for cache in [&one, &other] {
            gets(cache, "k", Some("newer")).await;
        }
    }
}

/// P9 reply-invalidates-again: after a refresh, its process serves nothing from before it, also
/// where the server does not push and somebody removes the new value at once.
#[tokio::test(flavor = "multi_thread")]
async fn refreshed_value_that_is_gone_at_once_does_not_leave_the_one_from_before() {
    let world = World::without_tracking().await;
    let (remote, cache) = gated_cache(&world, &policy()).await;
    load(&cache, "k", "old").await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    let confirms = remote.gate(Call::Holds, When::Before);
    let refreshed = refresh(&cache, "new", &Gate::opened());
    confirms.reached().await;
    world.server.command(&["DEL", "item:k"]).await.unwrap();
    confirms.open();
    is(refreshed, "new").await;
    assert_eq!(get(&cache, "k").await, None);
}

/// P16 only-for-earlier-callers: a refresh is shared by callers that came before its load began.
#[tokio::test(flavor = "multi_thread")]
async fn refreshes_of_one_process_share_a_load_that_begins_after_them() {
    let world = World::new().await;
    let cache = world.items().await;
    let gate = Gate::new();
    let first = refresh(&cache, "first", &gate);
    gate.reached().await;
    let second = Gate::new();
    let later: Vec<_> = (0..10)
        .map(|_| refresh(&cache, "second", &second))
        .collect();
    gate.open();
    is(first, "first").await;
    second.reached().await;
    second.open();
    for refreshed in later {
        is(refreshed, "second").await;
    }
    assert_eq!(second.arrivals(), 1, "loads");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("second"));
}

/// P3 clean-lease-commits: the value may be older than the invalidation.
#[tokio::test(flavor = "multi_thread")]
async fn refresh_during_which_its_key_is_invalidated_is_cached_nowhere() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for invalidator in [&one, &other] {
        load(&one, "k", "old").await;
        let gate = Gate::new();
        let refreshed = refresh(&one, "new", &gate);
        gate.reached().await;
        invalidator.invalidate("k").await.unwrap();
        gate.open();
        is(refreshed, "new").await;
        nowhere(&world, &[&one, &other], "k").await;
    }
}

#[tokio::test]
async fn refresh_without_l2_replaces_the_value_in_l1() {
    let cache: Items = cache_of(builder()).await;
    load(&cache, "k", "old").await;
    let gate = Gate::new();
    let refreshed = refresh(&cache, "new", &gate);
    gate.reached().await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    gate.open();
    is(refreshed, "new").await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_that_fails_leaves_the_entry() {
    let world = World::new().await;
    let cache = world.items().await;
    load(&cache, "k", "old").await;
    let failed = cache
        .refresh("k", || async { Err::<String, _>("the database is away") })
        .await;
    assert!(matches!(failed, Err(Error::Load { .. })), "{failed:?}");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
}
