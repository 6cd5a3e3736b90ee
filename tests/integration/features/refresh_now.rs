//! `Cache::refresh`: a load that begins after the call, whatever the levels have.

use std::{convert::Infallible, sync::Arc, time::Duration};

use larder::Error;
use larder_testkit::Gate;
use tokio::task::JoinHandle;

use crate::support::{
    calls::{Items, get, gets, load, slow_load},
    gated::{Call, When, gated},
    policy::builder,
    wait::start,
    world::{World, nowhere, scripts_run, waits_for_the_lease},
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

fn open() -> Gate {
    let gate = Gate::new();
    gate.open();
    gate
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

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_refresh_at_once_load_once() {
    let world = World::new().await;
    let (remote, larder) = gated(&world).await;
    let (one, other): (Items, Items) = (world.items().await, larder.cache("item").unwrap());
    load(&one, "k", "old").await;
    let claims = remote.gate(Call::Claim, When::Before);
    let late = open();
    let waits = refresh(&other, "late", &late);
    claims.reached().await; // it has been asked for, and its claim is on the way
    // Much longer than an answer takes, and than the millisecond in which the server counts.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let gate = Gate::new();
    let loads = refresh(&one, "new", &gate);
    gate.reached().await;
    let scripts = scripts_run(&world).await;
    claims.open();
    // Two claims, of which the second one finds the lease taken, and a look at the tag epoch.
    waits_for_the_lease(&world, "item:k", scripts + 3).await;
    gate.open();
    is(loads, "new").await;
    is(waits, "new").await;
    assert_eq!(late.arrivals(), 0, "loads of the other process");
    gets(&other, "k", Some("new")).await;
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
        let newer = open();
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
    let cache: Items = builder().build().await.unwrap().cache("item").unwrap();
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
