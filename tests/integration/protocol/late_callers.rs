//! Callers who come late for a look or a load, or after an invalidation that has outdated it: they
//! are served by a newer one, and share it.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use larder::{Event, Level, Levels};
use larder_core::{LeaseStore, Replacing, Token, Track};
use larder_testkit::Gate;
use tokio::time::Instant;

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get, load, slow_load, start_load},
    gated::{Call, Gated, When},
    policy::{MINUTE, builder, policy},
    wait::start,
    world::{World, cache_of},
};

/// P16 only-for-earlier-callers: the answer to a look is not for who comes after it was sent. All
/// of them share the next one, whenever they came.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_are_late_for_a_look_share_the_next_one() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let cache = world.cache_on(remote.clone(), &policy()).await;
    let first = remote.gate(Call::Get, When::After);
    let read = || {
        let cache = cache.clone();
        start(async move { get(&cache, "k").await })
    };
    let mut readers = vec![read()];
    first.reached().await;
    readers.extend((0..200).map(|_| read()));
    let second = remote.gate(Call::Get, When::After);
    first.open();
    second.reached().await;
    readers.extend((0..200).map(|_| read()));
    second.open();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), None);
    }
    assert_eq!(remote.calls(Call::Get), 3, "looks");
}

/// P16 only-for-earlier-callers: also if the look is into L1, where another caller has put the
/// value meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn late_look_that_finds_l1_filled_is_not_for_who_comes_after_it_has_looked() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let ((looked, is_looking), (go_on, going_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let hook = Mutex::new((looked, going_on));
    let hook = move |event: &Event<'_>| {
        if matches!(
            event,
            Event::Hit {
                level: Level::L1,
                ..
            }
        ) {
            let hook = hook.lock().unwrap();
            let _ = hook.0.send(());
            let _ = hook.1.recv(); // the look has found the value, and has not said so yet
        }
    };
    let builder = world.builder_on(remote.clone(), &policy()).on_event(hook);
    let cache: Items = builder.build().await.unwrap().cache("item").unwrap();
    let read = || {
        let cache = cache.clone();
        start(async move { get(&cache, "k").await })
    };
    let first = remote.gate(Call::Get, When::After);
    let early = read();
    first.reached().await;
    let late = read();
    cache.insert("k", "old".to_owned()).await.unwrap();
    first.open();
    assert_eq!(early.await.unwrap(), None);
    is_looking.recv().unwrap();
    cache.invalidate("k").await.unwrap();
    let later = read();
    drop(go_on);
    assert_eq!(late.await.unwrap().as_deref(), Some("old"));
    assert_eq!(later.await.unwrap(), None);
}

/// P16 only-for-earlier-callers: what a claim has found is not for a caller that came after the
/// claim was sent, also in a process that has not heard of the change since.
#[tokio::test]
async fn value_that_a_claim_has_found_is_not_for_who_comes_after_it_was_sent() {
    let world = Aging::new();
    let remote = Gated::deaf(Arc::new(world.server.connect()));
    // Without L1, which may have a value until the push for it arrives.
    let in_l2 = policy().levels(Levels::L2);
    let cache = world.cache_on(remote.clone(), &in_l2).await;
    let other = world.cache(&in_l2).await;
    let claim = remote.gate(Call::Claim, When::Before);
    let early = start_load(&cache, "k", "must not be loaded");
    claim.reached().await;
    other.insert("k", "old".to_owned()).await.unwrap();
    let found = remote.gate(Call::Claim, When::After);
    claim.open();
    found.reached().await;
    other.invalidate("k").await.unwrap();
    let late = start_load(&cache, "k", "new");
    // All that can run has run: there is one thread, and nothing to wait for but the gate.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        (remote.calls(Call::Get), remote.calls(Call::Claim)),
        (2, 1),
        "it has looked, and has joined the load"
    );
    found.open();
    assert_eq!(**early.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**late.await.unwrap().as_ref().unwrap(), "new");
}

/// P2 only-current-is-served: a load that has found the lease taken leaves its callers to a newer
/// one, if there is one.
#[tokio::test]
async fn load_that_is_outdated_waits_for_no_lease_beside_a_newer_one() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let (cache, other) = (
        world
            .cache_on(remote.clone(), &policy().lease(MINUTE).max_wait(MINUTE))
            .await,
        world.server.connect(),
    );
    let holder = Token::new();
    other
        .claim("item:k", &holder, MINUTE, Replacing::Nothing, Track::Value)
        .await
        .unwrap();
    let source = Source::open();
    let read = |loaded: &'static str| {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "k", loaded).await })
    };
    let busy = remote.gate(Call::Claim, When::After);
    let outdated = read("old");
    busy.reached().await;
    cache.invalidate("k").await.unwrap();
    let newer = read("new");
    // All that can run has run: there is one thread, and nothing to wait for but the gate and the
    // lease.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    busy.open(); // by now the lease is marked, and free
    for read in [outdated, newer] {
        assert_eq!(read.await.unwrap().unwrap(), "new");
    }
    assert_eq!(
        (remote.calls(Call::Claim), source.loads()),
        (2, 1),
        "claims and loads"
    );
}

/// P2 only-current-is-served: a reader that comes after an invalidation does not wait for the load
/// that this outdated.
#[tokio::test(flavor = "multi_thread")]
async fn reader_after_an_invalidation_is_served_while_the_load_that_it_outdated_runs() {
    let world = World::new().await;
    let alone: Items = cache_of(builder()).await;
    for cache in [world.items().await, alone] {
        let gate = Gate::new();
        let outdated = slow_load(&cache, "k", "old", &gate);
        gate.reached().await;
        cache.invalidate("k").await.unwrap();
        let start = Instant::now();
        assert_eq!(load(&cache, "k", "new").await, "new");
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "{:?}",
            start.elapsed()
        );
        assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
        gate.open();
        assert_eq!(**outdated.await.unwrap().as_ref().unwrap(), "old");
        assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
    }
}

/// P2 only-current-is-served: beside a load that an invalidation has outdated one other runs, which
/// is shared by all who came before the next invalidation; those who come later share the load that
/// follows the first one to end.
#[tokio::test]
async fn two_loads_of_a_key_are_the_most_however_often_it_is_invalidated() {
    let cache: Items = cache_of(builder()).await;
    let (gate, other) = (Gate::new(), Gate::new());
    let first = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    let mut later = Vec::new();
    for _ in 0..3 {
        cache.invalidate("k").await.unwrap();
        later.extend((0..10).map(|_| slow_load(&cache, "k", "new", &other)));
        // All that can run has run: there is one thread, and nothing to wait for but the gates.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            (gate.arrivals(), other.arrivals()),
            (1, 1),
            "loads at a time"
        );
    }
    gate.open();
    assert_eq!(**first.await.unwrap().as_ref().unwrap(), "old");
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        other.arrivals(),
        2,
        "the one that has ended leaves room for another"
    );
    other.open();
    for load in later {
        assert_eq!(**load.await.unwrap().as_ref().unwrap(), "new");
    }
    assert_eq!(other.arrivals(), 2, "loads in all");
}
