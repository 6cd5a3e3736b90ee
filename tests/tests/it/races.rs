//! Races, each in an order that the test decides.

use std::{convert::Infallible, io, sync::Arc};

use larder::{Cache, Error, Larder};
use larder_testkit::Gate;
use tokio::task::JoinHandle;

use crate::{
    gated::{Call, Gated, When},
    world::{World, builder, get, gets, load, slow_load, value},
};

async fn gated(world: &World) -> (Arc<Gated>, Larder) {
    let store = Gated::new(world.store().await);
    let larder = builder().remote_store(store.clone()).build().await.unwrap();
    (store, larder)
}

async fn nowhere(world: &World, caches: &[&Cache<String>], key: &str) {
    assert_eq!(world.l2(&format!("item:{key}")).await, None);
    for cache in caches {
        assert_eq!(get(cache, key).await, None);
    }
}

/// P1, P3, P5: the load read the database before the deletion.
#[tokio::test(flavor = "multi_thread")]
async fn key_deleted_during_its_load_is_cached_nowhere() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for (n, invalidator) in [&one, &other].into_iter().enumerate() {
        let key = format!("k{n}");
        let gate = Gate::new();
        let loading = slow_load(&one, &key, "old", &gate);
        gate.reached().await;
        invalidator.invalidate(key.as_str()).await.unwrap();
        gate.open();
        assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "old", "its caller came before the deletion");
        nowhere(&world, &[&one, &other], &key).await;
    }
    assert_eq!(one.stats().refused, 2);
}

/// P1: without a second level, the stamp alone refuses the late fill.
#[tokio::test(flavor = "multi_thread")]
async fn key_deleted_during_its_load_without_l2_is_not_cached() {
    let cache: Cache<String> = builder().build().await.unwrap().cache("item").unwrap();
    let gate = Gate::new();
    let loading = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    cache.invalidate("k").await.unwrap();
    let new = slow_load(&cache, "k", "new", &gate);
    gate.reached_by(2).await;
    gate.open();
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**new.await.unwrap().as_ref().unwrap(), "new", "P2: an outdated flight is not joined");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

/// P16: whoever comes after the deletion is not given what was loaded before it, also in a process that has not
/// heard of it yet.
#[tokio::test(flavor = "multi_thread")]
async fn refused_value_goes_only_to_those_who_came_before_its_load() {
    let world = World::new().await;
    let (store, larder) = gated(&world).await;
    let cache: Cache<String> = larder.cache("item").unwrap();
    let gate = Gate::new();
    let early = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    let late = slow_load(&cache, "k", "new", &gate);
    // The late one has joined; another process's write ends before it is served.
    crate::world::holds("the second caller has joined", || tokio_joined(&late)).await;
    let commit = store.gate(Call::Commit, When::Before);
    gate.open();
    commit.reached().await;
    world.store().await.invalidate("item:k", None).await.unwrap();
    commit.open();
    assert_eq!(**early.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**late.await.unwrap().as_ref().unwrap(), "new");
}

/// A task that has been spawned and has not ended is under way, as far as anybody can tell from outside.
fn tokio_joined<T>(task: &JoinHandle<T>) -> bool {
    !task.is_finished()
}

/// P1, P2: the reply is handled after the push that makes it out of date.
#[tokio::test(flavor = "multi_thread")]
async fn l2_reply_that_is_handled_after_the_push_does_not_enter_l1() {
    let world = World::new().await;
    let writer = world.items().await;
    load(&writer, "k", "old").await;
    let (store, larder) = gated(&world).await;
    let reader: Cache<String> = larder.cache("item").unwrap();
    let reply = store.gate(Call::Get, When::After);
    let reading = slow_load(&reader, "k", "must not be loaded", &Gate::new());
    reply.reached().await;
    writer.write_through("k", || value("new")).await.unwrap();
    // The push has arrived when a key read later through the same lane was pushed too; waiting for the entry to be
    // served anew is enough here, because the stamp is what is tested.
    world.server.command(&["PING"]).await.unwrap();
    let pushed = larder.cache::<String>("item").unwrap();
    reply.open();
    assert_eq!(**reading.await.unwrap().as_ref().unwrap(), "old", "it was read before the write");
    gets(&pushed, "k", Some("new")).await;
    for _ in 0..100 {
        assert_eq!(get(&reader, "k").await.as_deref(), Some("new"));
    }
}

/// P9: a read between the call and its script must not survive the call.
#[tokio::test(flavor = "multi_thread")]
async fn value_read_before_an_invalidation_is_carried_out_is_not_served_after_it() {
    let world = World::new().await;
    load(&world.items().await, "k", "old").await;
    let (store, larder) = gated(&world).await;
    let cache: Cache<String> = larder.cache("item").unwrap();
    let sent = store.gate(Call::Invalidate, When::Before);
    let invalidating = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate("k").await }
    });
    sent.reached().await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"), "the script has not run yet");
    sent.open();
    invalidating.await.unwrap().unwrap();
    nowhere(&world, &[&cache], "k").await;
}

/// P9, P19: the reply is handled also when the caller is gone.
#[tokio::test(flavor = "multi_thread")]
async fn invalidation_whose_caller_is_gone_is_carried_out() {
    let world = World::new().await;
    let (store, larder) = gated(&world).await;
    let cache: Cache<String> = larder.cache("item").unwrap();
    load(&cache, "k", "old").await;
    let done = store.gate(Call::Invalidate, When::After);
    let invalidating = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate("k").await }
    });
    done.reached().await;
    invalidating.abort();
    assert!(invalidating.await.is_err());
    done.open();
    gets(&cache, "k", None).await;
}

/// P6: a reader cannot fill in what it read before the write.
#[tokio::test(flavor = "multi_thread")]
async fn slow_reader_does_not_replace_what_a_writer_stored() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for (n, reader) in [&one, &other].into_iter().enumerate() {
        let key = format!("k{n}");
        let gate = Gate::new();
        let reading = slow_load(reader, &key, "old", &gate);
        gate.reached().await;
        one.write_through(key.as_str(), || value("new")).await.unwrap();
        gate.open();
        reading.await.unwrap().unwrap();
        assert_eq!(world.l2(&format!("item:{key}")).await.as_deref(), Some("\"new\""));
        gets(&one, &key, Some("new")).await;
        gets(&other, &key, Some("new")).await;
    }
}

fn write_slowly(cache: &Cache<String>, written: &str, gate: &Gate) -> JoinHandle<Result<Arc<String>, Error>> {
    let (cache, written, gate) = (cache.clone(), written.to_owned(), gate.clone());
    tokio::spawn(async move {
        let writer = || async move {
            gate.pass().await;
            Ok::<_, Infallible>(written)
        };
        cache.write_through("k", writer).await
    })
}

/// P15: without leases, two writers that overlap leave no value, because nobody knows whose came last.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_writers_without_l2_leave_no_value() {
    let cache: Cache<String> = builder().build().await.unwrap().cache("item").unwrap();
    for first_ends_first in [true, false] {
        let (first, second) = (Gate::new(), Gate::new());
        let one = write_slowly(&cache, "one", &first);
        first.reached().await;
        let two = write_slowly(&cache, "two", &second);
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

/// P15: a read that began before the writer ended cannot replace what the writer stored.
#[tokio::test(flavor = "multi_thread")]
async fn read_that_overlaps_a_writer_without_l2_does_not_replace_its_value() {
    let cache: Cache<String> = builder().build().await.unwrap().cache("item").unwrap();
    let (writing, reading) = (Gate::new(), Gate::new());
    let write = write_slowly(&cache, "new", &writing);
    writing.reached().await;
    let read = slow_load(&cache, "k", "old", &reading);
    reading.reached().await;
    writing.open();
    write.await.unwrap().unwrap();
    reading.open();
    read.await.unwrap().unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

/// P18: a failed write can still have reached the database.
#[tokio::test(flavor = "multi_thread")]
async fn writer_that_fails_after_the_database_changed_leaves_no_value() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for panics in [false, true] {
        load(&one, "k", "old").await;
        gets(&other, "k", Some("old")).await;
        let writer = move || async move {
            assert!(!panics, "the writer panics on purpose");
            Err::<String, _>(io::Error::other("connection lost after COMMIT"))
        };
        let failed = one.write_through("k", writer).await;
        match panics {
            true => assert!(matches!(failed, Err(Error::Panicked { .. })), "{failed:?}"),
            false => assert!(matches!(failed, Err(Error::Write(_))), "{failed:?}"),
        }
        gets(&other, "k", None).await;
        nowhere(&world, &[&one, &other], "k").await;
        assert_eq!(load(&one, "k", "read again").await, "read again", "its lease is free");
        one.invalidate("k").await.unwrap();
    }
}

/// P5, P18: the order of the two database writes is not known.
#[tokio::test(flavor = "multi_thread")]
async fn key_invalidated_during_its_write_is_cached_nowhere() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for invalidator in [&one, &other] {
        let gate = Gate::new();
        let write = write_slowly(&one, "written", &gate);
        gate.reached().await;
        invalidator.invalidate("k").await.unwrap();
        gate.open();
        assert_eq!(**write.await.unwrap().as_ref().unwrap(), "written");
        nowhere(&world, &[&one, &other], "k").await;
    }
}

/// P6: writers of one key run one at a time, in whatever process.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_leave_the_cache_equal_to_the_database() {
    let world = World::new().await;
    let caches = [world.items().await, world.items().await, world.items().await];
    let database = Arc::new(std::sync::Mutex::new(String::new()));
    for round in 0..100 {
        let mut writers = tokio::task::JoinSet::new();
        for (n, cache) in caches.iter().cycle().take(6).enumerate() {
            let (cache, database) = (cache.clone(), database.clone());
            writers.spawn(async move {
                let written = format!("{round}-{n}");
                let writer = move || async move {
                    tokio::task::yield_now().await;
                    database.lock().unwrap().clone_from(&written);
                    tokio::task::yield_now().await;
                    Ok::<_, Infallible>(written)
                };
                cache.write_through("k", writer).await.unwrap();
            });
        }
        writers.join_all().await;
        let truth = database.lock().unwrap().clone();
        assert_eq!(world.l2("item:k").await, Some(format!("\"{truth}\"")));
        for cache in &caches {
            gets(cache, "k", Some(truth.as_str())).await;
        }
    }
}

/// P10: a read whose lane was lost in the middle does not enter L1.
#[tokio::test(flavor = "multi_thread")]
async fn invalidation_during_promotion_is_not_lost() {
    let world = World::new().await;
    let owner = world.items().await;
    load(&owner, "k", "old").await;
    let (store, larder) = gated(&world).await;
    let reader: Cache<String> = larder.cache("item").unwrap();
    for by_reader in [true, false] {
        let reply = store.gate(Call::Get, When::After);
        let reading = tokio::spawn({
            let reader = reader.clone();
            async move { get(&reader, "k").await }
        });
        reply.reached().await;
        let invalidator = if by_reader { &reader } else { &owner };
        invalidator.invalidate("k").await.unwrap();
        reply.open();
        assert_eq!(reading.await.unwrap().as_deref(), Some("old"));
        gets(&reader, "k", None).await;
        load(&owner, "k", "old").await;
    }
}
