//! One load of a key at a time, whoever wants it.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::Error;
use larder_core::{Replacing, Token, Track};
use larder_testkit::Gate;
use tokio::{task::JoinSet, time::Instant};

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get, load, slow_load, slow_write},
    gated::{Call, Gated, When},
    policy::{MINUTE, SECOND, builder, policy},
    wait::{holds, start, woken},
    worker::Worker,
    world::{World, cache_of, cache_on, waits_for_the_lease},
};

async fn storm(cache: &Items, tasks: usize) {
    let gate = Gate::new();
    let mut storm = JoinSet::new();
    for _ in 0..tasks {
        let (cache, gate) = (cache.clone(), gate.clone());
        storm.spawn(async move {
            let loader = move || async move {
                gate.pass().await;
                Ok::<_, Infallible>("value".to_owned())
            };
            cache.get_or_load("cold", loader).await.unwrap()
        });
    }
    gate.reached().await;
    gate.open();
    let served = storm.join_all().await;
    assert!(served.len() == tasks && served.iter().all(|value| **value == "value"));
    assert_eq!(gate.arrivals(), 1, "loads");
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_key_that_a_thousand_tasks_want_is_loaded_once() {
    let world = World::new().await;
    for tasks in [10, 100, 1000] {
        storm(&world.items().await, tasks).await;
        world.items().await.invalidate("cold").await.unwrap();
        storm(&cache_of(builder()).await, tasks).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_key_that_four_processes_want_is_loaded_once() {
    let world = World::new().await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(Worker::start(&world.server.url()).await);
    }
    let mut waits = Vec::new();
    for round in 0..5 {
        for (n, worker) in workers.iter_mut().enumerate() {
            worker
                .tell(&format!("{n} storm item cold{round} 100 50"))
                .await;
        }
        let mut ends = JoinSet::new();
        let mut back = Vec::new();
        for (n, mut worker) in workers.drain(..).enumerate() {
            ends.spawn(async move {
                let mut loaded = None;
                loop {
                    let line = worker.line().await;
                    let now = Instant::now();
                    if line == format!("{n} loaded") {
                        loaded = Some(now);
                    } else {
                        assert!(line.starts_with(&format!("{n} served 100, ")), "{line}");
                        return (worker, loaded, now);
                    }
                }
            });
        }
        let (mut loads, mut last) = (Vec::new(), None);
        for (worker, loaded, served) in ends.join_all().await {
            loads.extend(loaded);
            last = last.max(Some(served));
            back.push(worker);
        }
        workers = back;
        assert_eq!(loads.len(), 1, "loads in all processes");
        waits.push(last.unwrap() - loads[0]);
    }
    waits.sort();
    println!("4 processes, 100 tasks each: last served after the loader's end: {waits:?}");
    assert!(
        waits[waits.len() / 2] < SECOND,
        "not by a push, but by a time: {waits:?}"
    );
}

/// The stampede lock alone, with values as bytes in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn cold_bytes_that_three_processes_want_are_loaded_once() {
    let world = World::new().await;
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(Worker::start(&world.server.url()).await);
    }
    for round in 0..3 {
        for worker in &mut workers {
            worker
                .tell(&format!("1 storm-bytes page cold{round} 100 50"))
                .await;
        }
        let mut loads = 0;
        for worker in &mut workers {
            let line = worker.line().await;
            let (served, loaded) = line.split_once(", loads ").expect("it says how many");
            assert_eq!(served, "1 served 100", "{line}");
            loads += loaded.parse::<usize>().unwrap();
        }
        assert_eq!(loads, 1, "loads in all processes");
        assert_eq!(
            world.l2(&format!("page:cold{round}")).await.as_deref(),
            Some("value")
        );
    }
}

/// P7 wake-own-waiters, P8 register-then-claim, P14 no-wait-for-expiry-push: the waiting process
/// sleeps until the push, for which its lease of a minute leaves it no other way.
#[tokio::test(flavor = "multi_thread")]
async fn waiter_in_another_process_is_woken_by_the_commit() {
    let world = World::new().await;
    let patient = policy().lease(MINUTE).max_wait(MINUTE);
    let (one, other) = (world.cache(&patient).await, world.cache(&patient).await);
    let gate = Gate::new();
    let loading = slow_load(&one, "k", "value", &gate);
    gate.reached().await;
    let waiting = slow_load(&other, "k", "must not be loaded", &gate);
    waits_for_the_lease(&world, "item:k", 2).await;
    gate.open();
    assert_eq!(**woken(waiting).await.unwrap().as_ref().unwrap(), "value");
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "value");
    assert_eq!(gate.arrivals(), 1, "loads");
}

/// P7 wake-own-waiters: this process's own scripts wake its own waiters, because no push comes for
/// them.
#[tokio::test(flavor = "multi_thread")]
async fn waiter_in_the_same_process_is_woken_by_an_outdated_load() {
    let world = World::new().await;
    let cache = world.cache(&policy().lease(MINUTE).max_wait(MINUTE)).await;
    let writing = Gate::new();
    let write = tokio::spawn({
        let (cache, writing) = (cache.clone(), writing.clone());
        async move {
            let writer = || async move {
                writing.pass().await;
                Ok::<_, Infallible>("written".to_owned())
            };
            cache.write_through("k", writer).await
        }
    });
    writing.reached().await;
    let gate = Gate::new();
    let waiting = slow_load(&cache, "k", "must not be loaded", &gate);
    waits_for_the_lease(&world, "item:k", 2).await;
    writing.open();
    assert_eq!(**write.await.unwrap().as_ref().unwrap(), "written");
    assert_eq!(**woken(waiting).await.unwrap().as_ref().unwrap(), "written");
    assert_eq!(gate.arrivals(), 0, "loads");
}

/// P7 wake-own-waiters: the invalidation of this process ends another's lease, of which no push
/// tells here.
#[tokio::test(flavor = "multi_thread")]
async fn waiter_is_woken_by_an_invalidation_or_clear_of_its_own_process() {
    let world = World::new().await;
    let holder = world.store().await;
    let store = Gated::new(world.one_lane().await);
    let cache = cache_on(store.clone(), &policy().lease(MINUTE).max_wait(MINUTE)).await;
    for clear in [false, true] {
        holder
            .claim(
                "item:k",
                &Token::new(),
                Duration::from_secs(60),
                Replacing::Nothing,
                Track::Value,
            )
            .await
            .unwrap();
        let busy = store.gate(Call::Claim, When::After);
        let waiting = slow_load(&cache, "k", "value", &Gate::opened());
        busy.reached().await;
        busy.open();
        if clear {
            cache.clear().await.unwrap();
        } else {
            cache.invalidate("k").await.unwrap();
        }
        assert_eq!(**woken(waiting).await.unwrap().as_ref().unwrap(), "value");
        cache.invalidate("k").await.unwrap();
    }
}

/// P8 register-then-claim: the lease ends, and its push is handled, before the reply that it is
/// held.
#[tokio::test(flavor = "multi_thread")]
async fn push_that_comes_before_the_reply_busy_wakes_the_waiter() {
    let world = World::new().await;
    let holder = world.store().await;
    for writes in [false, true] {
        let store = Gated::new(world.store().await);
        let cache = cache_on(store.clone(), &policy().lease(MINUTE).max_wait(MINUTE)).await;
        let (token, long) = (Token::new(), Duration::from_secs(60));
        holder.begin_write("item:k", &token, long).await.unwrap();
        let busy = store.gate(
            if writes {
                Call::BeginWrite
            } else {
                Call::Claim
            },
            When::After,
        );
        let waiting = match writes {
            true => slow_write(&cache, "value", &Gate::opened()),
            false => slow_load(&cache, "k", "value", &Gate::opened()),
        };
        busy.reached().await;
        holder.release("item:k", &token).await.unwrap();
        store.hear("item:k").await;
        busy.open();
        assert_eq!(**woken(waiting).await.unwrap().as_ref().unwrap(), "value");
        cache.invalidate("k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_load_is_an_error_for_all_and_the_next_caller_loads() {
    let world = World::new().await;
    for cache in [world.items().await, cache_of(builder()).await] {
        let gate = Gate::new();
        let mut waiting = JoinSet::new();
        for _ in 0..50 {
            let (cache, gate) = (cache.clone(), gate.clone());
            waiting.spawn(async move {
                let loader = || async move {
                    gate.pass().await;
                    Err::<String, _>(io::Error::other("database is down"))
                };
                cache.get_or_load("k", loader).await
            });
        }
        gate.reached().await;
        gate.open();
        let failed = waiting.join_all().await;
        assert!(failed.iter().all(
            |end| matches!(end, Err(Error::Load { source, .. }) if source.to_string() == "database is down")
        ));
        assert_eq!(cache.stats().load_errors, cache.stats().loads);
        assert_eq!(load(&cache, "k", "value").await, "value");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_loads_under_steady_arrivals_run_one_at_a_time() {
    let world = World::new().await;
    let cache = world.items().await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let (cache, running, most) = (cache.clone(), running.clone(), most.clone());
        callers.spawn(async move {
            for _ in 0..20 {
                let (running, most) = (running.clone(), most.clone());
                let loader = || async move {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Err::<String, _>("no")
                };
                assert!(cache.get_or_load("k", loader).await.is_err());
            }
        });
    }
    callers.join_all().await;
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn value_in_l2_that_many_want_is_read_once() {
    let world = World::new().await;
    load(&world.items().await, "k", "value").await;
    let cold = world.items().await;
    let mut readers = JoinSet::new();
    for n in 0..200 {
        let cold = cold.clone();
        readers.spawn(async move {
            match n % 2 {
                0 => get(&cold, "k").await.unwrap(),
                _ => load(&cold, "k", "must not be loaded").await,
            }
        });
    }
    assert!(readers.join_all().await.iter().all(|read| read == "value"));
    let stats = cold.stats();
    assert_eq!(stats.loads, 0);
    assert!(
        stats.l2_hits <= 2,
        "one look for the gets, one for the loads at most: {stats:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_key_texts_of_two_rows_never_share_a_flight() {
    let world = World::new().await;
    let larder = world.larder().await;
    let (items, others) = (
        larder.cache("item").unwrap(),
        larder.cache("other").unwrap(),
    );
    let gate = Gate::new();
    let slow = slow_load(&items, "k", "item", &gate);
    gate.reached().await;
    assert_eq!(load(&others, "k", "other").await, "other");
    gate.open();
    assert_eq!(**slow.await.unwrap().as_ref().unwrap(), "item");
}

#[tokio::test(flavor = "multi_thread")]
async fn joined_callers_of_an_absent_value_load_it_once() {
    let world = World::new().await;
    let cache = world.cache(&policy().negative_ttl(MINUTE)).await;
    let gate = Gate::new();
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (cache, gate) = (cache.clone(), gate.clone());
        callers.spawn(async move {
            let loader = || async move {
                gate.pass().await;
                Ok::<Option<String>, Infallible>(None)
            };
            cache.find_or_load("k", loader).await.unwrap()
        });
    }
    gate.reached().await;
    gate.open();
    assert!(callers.join_all().await.iter().all(Option::is_none));
    holds("one load", || cache.stats().loads == 1).await;
}

/// P1 stamp-before-read: the stamp is taken anew after the wait, so the value that was waited for
/// is kept.
#[tokio::test]
async fn value_that_another_process_has_loaded_meanwhile_enters_l1() {
    let world = Aging::new();
    let (one, other) = (world.cache(&policy()).await, world.cache(&policy()).await);
    let source = Source::gated();
    let read = |cache: &Items| {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "k", "value").await })
    };
    let loading = read(&one);
    source.gate.reached().await;
    let waiting = read(&other);
    for _ in 0..20 {
        tokio::task::yield_now().await; // it finds the lease taken
    }
    source.gate.open();
    assert_eq!(loading.await.unwrap().unwrap(), "value");
    assert_eq!(waiting.await.unwrap().unwrap(), "value");
    assert_eq!(get(&other, "k").await.as_deref(), Some("value"));
    assert_eq!((other.stats().l1_hits, source.loads()), (1, 1));
}
