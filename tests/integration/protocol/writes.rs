//! Writers that meet readers, other writers, and trouble.

use std::{io, time::Duration};

use larder::Loaded;
use larder_testkit::Gate;
use tokio::task::JoinHandle;

use crate::support::{
    calls::{Items, get, gets, load, slow_load, slow_write, value},
    gated::{Call, When, gated, gated_cache},
    policy::{MINUTE, builder, builder_of, policy},
    redis::config,
    wait::holds,
    world::{World, cache_of, nowhere},
};

/// P15 writer-ends-by-compare: without leases, two writers that overlap leave no value, because
/// nobody knows whose came last.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_writers_without_l2_leave_no_value() {
    let cache: Items = cache_of(builder()).await;
    for first_ends_first in [true, false] {
        let (first, second) = (Gate::new(), Gate::new());
        let one = slow_write(&cache, "one", &first);
        first.reached().await;
        let two = slow_write(&cache, "two", &second);
        second.reached().await;
        let mut ends = [(first, one), (second, two)];
        if !first_ends_first {
            ends.reverse();
        }
        for (gate, write) in ends {
            gate.open();
            write.await.unwrap().unwrap();
        }
        assert_eq!(get(&cache, "k").await, None);
    }
}

/// P15 writer-ends-by-compare: a read that began before the writer ended cannot replace what the
/// writer stored.
#[tokio::test(flavor = "multi_thread")]
async fn read_that_overlaps_a_writer_without_l2_does_not_replace_its_value() {
    let cache: Items = cache_of(builder()).await;
    let (writing, reading) = (Gate::new(), Gate::new());
    let write = slow_write(&cache, "new", &writing);
    writing.reached().await;
    let read = slow_load(&cache, "k", "old", &reading);
    reading.reached().await;
    writing.open();
    write.await.unwrap().unwrap();
    reading.open();
    read.await.unwrap().unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

/// P5 invalidation-marks-writers, P18 failed-write-invalidates: the order of the two database
/// writes is not known.
#[tokio::test(flavor = "multi_thread")]
async fn key_invalidated_during_its_write_is_cached_nowhere() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for invalidator in [&one, &other] {
        let gate = Gate::new();
        let write = slow_write(&one, "written", &gate);
        gate.reached().await;
        invalidator.invalidate("k").await.unwrap();
        gate.open();
        assert_eq!(**write.await.unwrap().as_ref().unwrap(), "written");
        nowhere(&world, &[&one, &other], "k").await;
    }
}

/// How a write can end without a value to cache.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Around,
    Failure,
    NoLifetime,
    TooLarge,
    /// With a value, for a writer whose lease is lost meanwhile.
    Value,
}

/// Starts a write of `k` that waits at the gate.
fn write_that_ends(cache: &Items, ending: Ending, gate: &Gate) -> JoinHandle<()> {
    let (cache, gate) = (cache.clone(), gate.clone());
    tokio::spawn(async move {
        let written = async move {
            gate.pass().await;
            let large = matches!(ending, Ending::TooLarge);
            let value = Loaded::new("written".repeat(if large { LIMIT } else { 1 }));
            match ending {
                Ending::NoLifetime => Ok(value.ttl(Duration::ZERO)),
                Ending::Failure => Err(io::Error::other("connection lost after COMMIT")),
                _ => Ok(value),
            }
        };
        match ending {
            Ending::Around => cache
                .write_around("k", || async { written.await.map(drop) })
                .await
                .unwrap(),
            Ending::Failure => assert!(cache.write_through("k", || written).await.is_err()),
            _ => drop(cache.write_through("k", || written).await.unwrap()),
        }
    })
}

const LIMIT: usize = 1000;

/// P9 reply-invalidates-again, P18 failed-write-invalidates: whatever was read while the write was
/// under way is out of date.
#[tokio::test(flavor = "multi_thread")]
async fn read_during_a_write_without_l2_does_not_survive_it() {
    for ending in [Ending::Around, Ending::Failure, Ending::NoLifetime] {
        for read_ends_first in [true, false] {
            let cache: Items = cache_of(builder()).await;
            let (writing, reading) = (Gate::new(), Gate::new());
            let write = write_that_ends(&cache, ending, &writing);
            writing.reached().await;
            let read = slow_load(&cache, "k", "old", &reading);
            reading.reached().await;
            if read_ends_first {
                reading.open();
                gets(&cache, "k", Some("old")).await;
            }
            writing.open();
            write.await.unwrap();
            reading.open();
            assert_eq!(**read.await.unwrap().as_ref().unwrap(), "old");
            assert_eq!(
                get(&cache, "k").await,
                None,
                "{ending:?}, {read_ends_first}"
            );
        }
    }
}

/// P18 failed-write-invalidates: what another process filled in while the writer's lease was lost
/// may be older than the write.
#[tokio::test(flavor = "multi_thread")]
async fn writer_that_lost_its_lease_leaves_no_value() {
    let world = World::new().await;
    let other = world.items().await;
    for ending in [
        Ending::Value,
        Ending::Around,
        Ending::Failure,
        Ending::NoLifetime,
        Ending::TooLarge,
    ] {
        let cache: Items =
            cache_of(builder().redis(world.server.url()).max_value_size(LIMIT)).await;
        let gate = Gate::new();
        let write = write_that_ends(&cache, ending, &gate);
        gate.reached().await;
        world
            .server
            .command(&["DEL", "larder:lease:{item:k}"])
            .await
            .unwrap(); // its time is over
        assert_eq!(load(&other, "k", "old").await, "old");
        gate.open();
        write.await.unwrap();
        assert_eq!(world.l2("item:k").await, None, "{ending:?}");
        assert_eq!(get(&cache, "k").await, None, "{ending:?}");
        gets(&other, "k", None).await;
    }
}

/// P18 failed-write-invalidates: nobody knows whether the value was stored, and whose came last.
#[tokio::test(flavor = "multi_thread")]
async fn writer_whose_commit_is_not_answered_leaves_no_value() {
    let world = World::new().await;
    let (store, _, cache) = gated(&world).await;
    store.lose_reply(Call::Commit);
    assert_eq!(
        **cache
            .write_through("k", || value("new"))
            .await
            .as_ref()
            .unwrap(),
        "new"
    );
    nowhere(&world, &[&cache], "k").await;
    assert_eq!(
        load(&world.items().await, "k", "next").await,
        "next",
        "its lease is free"
    );
    assert_eq!(world.l2("item:k").await.as_deref(), Some("\"next\""));
}

/// P9 reply-invalidates-again: what was read before `begin_write` was carried out is not served
/// after it, nor after one that got no answer; also where the process is not told of what it does
/// itself.
#[tokio::test(flavor = "multi_thread")]
async fn value_read_before_a_write_begins_is_not_served_while_it_runs() {
    for world in [World::new().await, World::without_tracking().await] {
        for is_answered in [true, false] {
            world
                .items()
                .await
                .insert("k", "old".to_owned())
                .await
                .unwrap();
            let (store, _, cache) = gated(&world).await;
            let (begun, writing) = (store.gate(Call::BeginWrite, When::Before), Gate::new());
            let write = slow_write(&cache, "new", &writing);
            begun.reached().await;
            assert_eq!(
                get(&cache, "k").await.as_deref(),
                Some("old"),
                "the script has not run yet"
            );
            if !is_answered {
                store.lose_reply(Call::BeginWrite);
            }
            begun.open();
            writing.reached().await;
            assert_eq!(get(&cache, "k").await, None, "answered: {is_answered}");
            writing.open();
            assert_eq!(**write.await.unwrap().as_ref().unwrap(), "new");
        }
    }
}

/// P11 unsent-goes-first: a lease of which nobody knows whether it was given ends with the
/// invalidation that takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn write_whose_beginning_is_not_answered_holds_nobody_up() {
    let world = World::new().await;
    let patient = policy().lease(MINUTE);
    let (store, cache) = gated_cache(&world, &patient).await;
    store.lose_reply(Call::BeginWrite);
    cache.write_through("k", || value("one")).await.unwrap();
    let other = world.cache(&patient).await;
    let lease = world
        .server
        .command(&["EXISTS", "larder:lease:{item:k}"])
        .await
        .unwrap();
    assert_eq!(lease, larder_testkit::Reply::Integer(0));
    other.write_through("k", || value("two")).await.unwrap();
    gets(&cache, "k", Some("two")).await;
}

/// P11 unsent-goes-first: and so does the lease of a writer whose connection is lost under it.
#[tokio::test(flavor = "multi_thread")]
async fn writer_whose_connection_is_lost_holds_nobody_up_once_it_is_back() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    for ending in [Ending::Value, Ending::Around] {
        let patient = policy().lease(MINUTE);
        let larder = builder_of(std::slice::from_ref(&patient));
        let larder = larder
            .redis_config(config(proxy.url()))
            .build()
            .await
            .unwrap();
        let cache: Items = larder.cache("item").unwrap();
        let gate = Gate::new();
        let write = write_that_ends(&cache, ending, &gate);
        gate.reached().await;
        let before = proxy.connections();
        proxy.refuse(true);
        proxy.cut();
        gate.open();
        write.await.unwrap();
        proxy.refuse(false);
        holds("it is connected again", || proxy.connections() > before).await;
        let other = world.cache(&patient).await;
        other.write_through("k", || value("next")).await.unwrap();
        assert_eq!(
            world.l2("item:k").await.as_deref(),
            Some("\"next\""),
            "{ending:?}"
        );
    }
}

/// P11 unsent-goes-first: during an outage the invalidation is remembered before the database is
/// written, and again after.
#[tokio::test(flavor = "multi_thread")]
async fn value_filled_in_by_others_during_a_write_in_an_outage_does_not_stay() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let larder = builder()
        .redis_config(config(proxy.url()))
        .build()
        .await
        .unwrap();
    let (cut_off, other): (Items, _) = (larder.cache("item").unwrap(), world.items().await);
    load(&other, "k", "old").await;
    proxy.refuse(true);
    proxy.cut();
    let gate = Gate::new();
    let write = slow_write(&cut_off, "new", &gate);
    gate.reached().await;
    proxy.refuse(false);
    gets(&other, "k", None).await; // what was remembered before the write has been sent
    load(&other, "k", "old").await;
    gate.open();
    write.await.unwrap().unwrap();
    gets(&other, "k", None).await;
    assert_ne!(get(&cut_off, "k").await.as_deref(), Some("old"));
}

/// P15 writer-ends-by-compare: writers that get no lease are put in order by their cells.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_writers_in_an_outage_leave_no_value() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let cache: Items = cache_of(builder().redis_config(config(proxy.url()))).await;
    proxy.refuse(true);
    proxy.cut();
    let (first, second) = (Gate::new(), Gate::new());
    let one = slow_write(&cache, "one", &first);
    first.reached().await;
    let two = slow_write(&cache, "two", &second);
    second.reached().await;
    for (gate, write) in [(second, two), (first, one)] {
        gate.open();
        write.await.unwrap().unwrap();
    }
    assert_eq!(get(&cache, "k").await, None);
    let alone = slow_write(&cache, "three", &Gate::opened());
    alone.await.unwrap().unwrap();
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("three"),
        "a writer alone leaves its value"
    );
}
