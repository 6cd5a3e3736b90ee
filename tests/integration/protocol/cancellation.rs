//! Callers that leave, loaders that panic.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder::Error;
use larder_testkit::Gate;
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, gets, load, slow_load, value},
    gated::{Call, Gated, When},
    policy::{MINUTE, builder, policy},
    wait::{BOUND, holds, woken},
    world::{World, cache_of, local},
};

async fn both_kinds() -> (World, [Items; 2]) {
    let world = World::new().await;
    let patient = policy().lease(MINUTE).max_wait(MINUTE);
    let caches = [world.cache(&patient).await, local(&patient).await];
    (world, caches)
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_leader_leaves_the_load_to_the_others() {
    let (_world, caches) = both_kinds().await;
    for cache in caches {
        let gate = Gate::new();
        let leader = slow_load(&cache, "k", "value", &gate);
        gate.reached().await;
        let waiters: Vec<_> = (0..999)
            .map(|_| slow_load(&cache, "k", "must not be loaded", &gate))
            .collect();
        let joined = slow_load(&cache, "k", "must not be loaded", &gate);
        tokio::task::yield_now().await;
        // The load began, so one waiter at least must have joined before its leader goes.
        let probe = cache.clone();
        let probing = tokio::spawn(async move {
            tokio::time::timeout(
                Duration::from_millis(50),
                probe.get_or_load("k", || value("no")),
            )
            .await
            .is_err()
        });
        assert!(
            probing.await.unwrap(),
            "it joined, and its own deadline ended its wait only"
        );
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        gate.open();
        for waiter in waiters.into_iter().chain([joined]) {
            assert_eq!(**waiter.await.unwrap().as_ref().unwrap(), "value");
        }
        assert_eq!((gate.arrivals(), cache.stats().loads), (1, 1));
    }
}

/// Tells when it is dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// P19 loads-end-with-callers: a load that nobody wants any more ends, and its lease of a minute is
/// free.
#[tokio::test(flavor = "multi_thread")]
async fn load_whose_last_caller_leaves_is_given_up_and_its_lease_released() {
    let (_world, caches) = both_kinds().await;
    for cache in caches {
        let (dropped, gate) = (Arc::new(AtomicBool::new(false)), Gate::new());
        let mut callers = Vec::new();
        for _ in 0..10 {
            let (cache, guard, gate) = (cache.clone(), Dropped(dropped.clone()), gate.clone());
            callers.push(tokio::spawn(async move {
                let loader = || async move {
                    let _guard = guard;
                    gate.pass().await;
                    std::future::pending::<Result<String, Infallible>>().await
                };
                cache.get_or_load("k", loader).await
            }));
        }
        gate.reached().await;
        callers.iter().for_each(tokio::task::JoinHandle::abort);
        for caller in callers {
            let _ = caller.await;
        }
        holds("the loader is dropped", || dropped.load(Ordering::SeqCst)).await;
        assert_eq!(woken(load(&cache, "k", "value")).await, "value");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loader_that_panics_is_an_error_for_all_and_poisons_nothing() {
    let (_world, caches) = both_kinds().await;
    for cache in caches {
        let gate = Gate::new();
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (cache, gate) = (cache.clone(), gate.clone());
                tokio::spawn(async move {
                    let loader = || async move {
                        gate.pass().await;
                        assert_eq!(gate.arrivals(), usize::MAX, "the loader panics on purpose");
                        Ok::<String, Infallible>(String::new())
                    };
                    cache.get_or_load("k", loader).await
                })
            })
            .collect();
        gate.reached().await;
        gate.open();
        for caller in callers {
            let ended = caller.await.unwrap();
            assert!(matches!(ended, Err(Error::Panicked { .. })), "{ended:?}");
        }
        let loader = || -> std::future::Ready<Result<String, Infallible>> {
            panic!("before its future, on purpose")
        };
        assert!(matches!(
            cache.get_or_load("k", loader).await,
            Err(Error::Panicked { .. })
        ));
        assert_eq!(load(&cache, "k", "value").await, "value");
    }
}

/// P19 loads-end-with-callers: the caller is gone, the database is written, and both levels follow.
#[tokio::test(flavor = "multi_thread")]
async fn write_whose_caller_is_gone_runs_to_its_end() {
    let (_world, caches) = both_kinds().await;
    for cache in caches {
        load(&cache, "k", "old").await;
        let gate = Gate::new();
        let write = tokio::spawn({
            let (cache, gate) = (cache.clone(), gate.clone());
            async move {
                let writer = || async move {
                    gate.pass().await;
                    Ok::<_, Infallible>("new".to_owned())
                };
                cache.write_through("k", writer).await
            }
        });
        gate.reached().await;
        write.abort();
        assert!(write.await.is_err());
        gate.open();
        gets(&cache, "k", Some("new")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caller_with_a_deadline_leaves_in_time_and_affects_nobody() {
    let (_world, caches) = both_kinds().await;
    for cache in caches {
        let gate = Gate::new();
        let patient = slow_load(&cache, "k", "value", &gate);
        gate.reached().await;
        let start = Instant::now();
        let hurried = tokio::time::timeout(
            Duration::from_millis(20),
            cache.get_or_load("k", || value("no")),
        )
        .await;
        assert!(
            hurried.is_err() && start.elapsed() < BOUND / 2,
            "{:?}",
            start.elapsed()
        );
        gate.open();
        assert_eq!(**patient.await.unwrap().as_ref().unwrap(), "value");
        assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_that_leaves_during_its_look_at_l2_leaves_it_to_the_others() {
    let world = World::new().await;
    load(&world.items().await, "k", "value").await;
    let store = Gated::new(world.store().await);
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let sent = store.gate(Call::Get, When::Before);
    let leader = slow_load(&cache, "k", "must not be loaded", &Gate::new());
    sent.reached().await;
    let waiter = slow_load(&cache, "k", "must not be loaded", &Gate::new());
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    sent.open();
    assert_eq!(**waiter.await.unwrap().as_ref().unwrap(), "value");
}

/// A future that is kept and not polled, as in a `select!` whose other branch is at work.
#[tokio::test(flavor = "multi_thread")]
async fn leader_that_is_not_polled_holds_nobody_up() {
    let world = World::new().await;
    load(&world.items().await, "k", "value").await;
    let store = Gated::new(world.store().await);
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let looks = [(); 2].map(|()| store.gate(Call::Get, When::Before));
    let mut leader = Box::pin(cache.get_or_load("k", || value("must not be loaded")));
    let mut getter = Box::pin(cache.get("k"));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(leader.as_mut().poll(&mut context).is_pending());
    assert!(getter.as_mut().poll(&mut context).is_pending());
    looks.iter().for_each(Gate::open);
    let same_task = tokio::time::timeout(BOUND, load(&cache, "k", "must not be loaded"));
    assert_eq!(same_task.await.unwrap(), "value");
    assert_eq!(
        tokio::time::timeout(BOUND, get(&cache, "k"))
            .await
            .unwrap()
            .as_deref(),
        Some("value")
    );
    assert_eq!(**leader.await.as_ref().unwrap(), "value");
}
