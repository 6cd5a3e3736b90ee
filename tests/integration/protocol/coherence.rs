//! Changes by one process, or by a foreign program, are seen by the others.

use std::time::Duration;

use larder::Larder;
use larder_testkit::{Gate, Reply};
use tokio::time::Instant;

use crate::support::{
    calls::{Items, Pairs, get, gets, load, slow_load, value},
    cluster::names,
    gated::{Call, Gated, When},
    policy::{SECOND, builder, builder_of, ms, named, policy},
    wait::BOUND,
    world::{World, cache_of},
};

/// P4 l1-read-from-l2, P12 tracking-never-assumed: each way in which a value enters L1 leaves its
/// key tracked.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_write_or_deletion_disappears_from_every_l1() {
    let world = World::new().await;
    let (loader, promoter) = (world.items().await, world.items().await);
    let mut foreign = world.server.client().await.unwrap();
    let mut delays = Vec::new();
    for round in 0..200 {
        let (old, new) = (format!("old{round}"), format!("new{round}"));
        assert_eq!(load(&loader, "k", &old).await, old); // by its commit
        assert_eq!(get(&promoter, "k").await.as_deref(), Some(old.as_str())); // by its read
        let start = Instant::now();
        if round % 2 == 0 {
            foreign
                .command(&["SET", "item:k", &format!("\"{new}\"")])
                .await
                .unwrap();
        } else {
            foreign.command(&["DEL", "item:k"]).await.unwrap();
        }
        for cache in [&loader, &promoter] {
            gets(cache, "k", (round % 2 == 0).then_some(new.as_str())).await;
        }
        delays.push(start.elapsed());
        foreign.command(&["DEL", "item:k"]).await.unwrap();
        for cache in [&loader, &promoter] {
            gets(cache, "k", None).await;
        }
    }
    delays.sort();
    let (median, p99) = (delays[delays.len() / 2], delays[delays.len() * 99 / 100]);
    println!("foreign change gone from two L1s: median {median:?}, p99 {p99:?}");
    assert!(median < SECOND, "not by a push, but by a time: {median:?}");
}

/// P12 tracking-never-assumed: also what the server evicts to make room for this very connection's
/// commands.
#[tokio::test(flavor = "multi_thread")]
async fn entry_that_the_server_evicts_for_its_own_process_disappears_from_l1() {
    let world = World::new().await;
    let cache: Items = cache_of(builder().remote_store(world.one_lane().await)).await;
    let mut client = world.server.client().await.unwrap();
    for round in 0..10 {
        client
            .command(&["CONFIG", "SET", "maxmemory", "0"])
            .await
            .unwrap();
        client
            .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"])
            .await
            .unwrap();
        load(&cache, "k", "old").await;
        let memory = client
            .command(&["INFO", "memory"])
            .await
            .unwrap()
            .text()
            .unwrap();
        let used = memory
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"))
            .unwrap();
        let limit = (used.parse::<usize>().unwrap() + 10_000).to_string();
        client
            .command(&["CONFIG", "SET", "maxmemory", &limit])
            .await
            .unwrap();
        for key in 0.. {
            cache
                .insert(format!("{round}-{key}"), "x".repeat(8_000))
                .await
                .unwrap();
            if client.command(&["EXISTS", "item:k"]).await.unwrap() == Reply::Integer(0) {
                break;
            }
        }
        gets(&cache, "k", None).await;
    }
}

/// P4 l1-read-from-l2: a value that was written through is tracked too.
#[tokio::test(flavor = "multi_thread")]
async fn value_written_through_is_invalidated_by_other_processes() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    for round in 0..50 {
        let (first, second) = (format!("{round}a"), format!("{round}b"));
        let (one_writes, other_writes) = (value(&first), value(&second));
        one.write_through("k", || one_writes).await.unwrap();
        gets(&other, "k", Some(&first)).await;
        other.write_through("k", || other_writes).await.unwrap();
        gets(&one, "k", Some(&second)).await;
        assert_eq!(get(&other, "k").await, Some(second));
    }
}

/// P4 l1-read-from-l2: what was committed enters L1 without being asked for once more, and is told
/// of.
#[tokio::test(flavor = "multi_thread")]
async fn committed_value_is_in_l1_without_another_call() {
    let world = World::new().await;
    let store = Gated::new(world.store().await);
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let mut foreign = world.server.client().await.unwrap();
    for round in 0..20 {
        let (loaded, written) = (format!("loaded{round}"), format!("written{round}"));
        assert_eq!(load(&cache, "k", &loaded).await, loaded);
        let calls = store.calls(Call::Get);
        assert_eq!(get(&cache, "k").await, Some(loaded));
        let (writer, hearing) = (value(&written), store.clone());
        let writer = || async move {
            hearing.hear("item:k").await; // what the write has deleted
            writer.await
        };
        cache.write_through("k", writer).await.unwrap();
        assert_eq!(get(&cache, "k").await, Some(written));
        assert_eq!(
            (store.calls(Call::Get), store.calls(Call::Holds)),
            (calls, 0)
        );
        foreign.command(&["DEL", "item:k"]).await.unwrap();
        gets(&cache, "k", None).await;
        foreign.command(&["DEL", "item:k"]).await.unwrap();
    }
}

/// P4 l1-read-from-l2: a value that others have replaced before its commit's reply was handled does
/// not enter L1.
#[tokio::test(flavor = "multi_thread")]
async fn value_replaced_while_its_commit_is_answered_does_not_enter_l1() {
    let world = World::new().await;
    let store = Gated::new(world.store().await);
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let other = world.items().await;
    for begin in ["load", "write"] {
        let answer = store.gate(Call::Commit, When::After);
        let (cache, written) = (cache.clone(), value("mine"));
        let call = tokio::spawn({
            let cache = cache.clone();
            async move {
                match begin {
                    "load" => drop(cache.get_or_load("k", || written).await.unwrap()),
                    _ => drop(cache.write_through("k", || written).await.unwrap()),
                }
            }
        });
        answer.reached().await;
        other.insert("k", "theirs".to_owned()).await.unwrap();
        store.hear("item:k").await;
        answer.open();
        call.await.unwrap();
        assert_eq!(get(&cache, "k").await.as_deref(), Some("theirs"), "{begin}");
        other.invalidate("k").await.unwrap();
        gets(&cache, "k", None).await;
    }
}

async fn eventually_none(cache: &Pairs, key: (u64, &str)) {
    let give_up = Instant::now() + BOUND;
    while cache.get(key).await.unwrap().is_some() {
        assert!(Instant::now() < give_up, "{key:?} is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn related_keys_of_several_rows_leave_every_level_together() {
    let world = World::new().await;
    let larders = [world.larder().await, world.larder().await];
    let caches = |larder: &Larder| -> (Items, Pairs) {
        (
            larder.cache("item").unwrap(),
            larder.cache("other").unwrap(),
        )
    };
    for larder in &larders {
        let (items, others) = caches(larder);
        load(&items, "42", "item").await;
        others
            .get_or_load((42, "posts"), || value("posts"))
            .await
            .unwrap();
        others
            .get_or_load((42, "followers"), || value("followers"))
            .await
            .unwrap();
        load(&items, "43", "stays").await;
    }
    let (items, others) = caches(&larders[0]);
    let related = [
        items.key("42"),
        others.key((42, "posts")),
        others.key((42, "followers")),
    ];
    larders[0].invalidate(related).await.unwrap();
    for larder in &larders {
        let (items, others) = caches(larder);
        gets(&items, "42", None).await;
        for key in [(42, "posts"), (42, "followers")] {
            eventually_none(&others, key).await;
        }
        assert_eq!(get(&items, "43").await.as_deref(), Some("stays"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_keys_are_invalidated_in_one_call() {
    let world = World::new().await;
    let (larder, other) = (world.larder().await, world.items().await);
    let items: Items = larder.cache("item").unwrap();
    for key in 0..3000 {
        items.insert(key.to_string(), "v".to_owned()).await.unwrap();
    }
    assert_eq!(get(&other, "2999").await.as_deref(), Some("v"));
    larder
        .invalidate((0..3000).map(|key| items.key(key.to_string())))
        .await
        .unwrap();
    gets(&other, "2999", None).await;
    let mut left = names(&world.server, "*").await;
    left.retain(|name| !name.starts_with("larder:probe:")); // each lane writes one now and then
    assert_eq!(left, ["larder:{tags}"], "nothing but the order of the tags");
}

#[tokio::test(flavor = "multi_thread")]
async fn write_around_leaves_no_value_anywhere() {
    let world = World::new().await;
    let (one, other) = (world.items().await, world.items().await);
    load(&one, "k", "old").await;
    gets(&other, "k", Some("old")).await;
    let written = one
        .write_around("k", || async { Ok::<_, std::io::Error>(1_u64) })
        .await
        .unwrap();
    assert_eq!(
        (written, get(&one, "k").await, world.l2("item:k").await),
        (1, None, None)
    );
    gets(&other, "k", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleared_row_is_empty_in_every_process_and_refuses_loads_that_began_before() {
    let world = World::new().await;
    let (one, other) = (world.larder().await, world.larder().await);
    let (items, elsewhere): (Items, Items) =
        (one.cache("item").unwrap(), other.cache("item").unwrap());
    let others: Items = one.cache("other").unwrap();
    load(&others, "k", "stays").await;
    for key in 0..100 {
        items
            .insert(key.to_string(), "old".to_owned())
            .await
            .unwrap();
        assert_eq!(
            get(&elsewhere, &key.to_string()).await.as_deref(),
            Some("old")
        );
    }
    let gate = Gate::new();
    let loading = slow_load(&elsewhere, "loading", "old", &gate);
    gate.reached().await;
    items.clear().await.unwrap();
    gate.open();
    loading.await.unwrap().unwrap();
    let late = world.items().await;
    for key in (0..100)
        .map(|key| key.to_string())
        .chain(["loading".to_owned()])
    {
        assert_eq!(get(&items, &key).await, None, "{key}");
        assert_eq!(get(&late, &key).await, None, "{key}");
        gets(&elsewhere, &key, None).await;
    }
    assert_eq!(get(&others, "k").await.as_deref(), Some("stays"));
    one.clear().await.unwrap();
    assert_eq!(get(&others, "k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_server_empties_every_l1() {
    let world = World::new().await;
    let cache = world.items().await;
    load(&cache, "k", "old").await;
    world.server.command(&["FLUSHALL"]).await.unwrap();
    gets(&cache, "k", None).await;
}

/// A cache works on when the larder that it came from has been dropped.
#[tokio::test(flavor = "multi_thread")]
async fn cache_that_outlives_its_larder_still_hears_of_changes() {
    let world = World::new().await;
    let cache = {
        let larder = world.larder().await;
        larder.cache::<String, String>("item").unwrap()
    };
    load(&cache, "k", "old").await;
    world.server.command(&["DEL", "item:k"]).await.unwrap();
    gets(&cache, "k", None).await;
}

/// A lock takes a store's pushes too, and leaves the cache its own.
#[tokio::test(flavor = "multi_thread")]
async fn store_shared_with_a_lock_still_tells_the_cache() {
    let world = World::new().await;
    let store = world.store().await;
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let lock = larder_lock::LeaseLock::new(store, Duration::from_secs(10));
    let other = larder_lock::LeaseLock::new(world.store().await, Duration::from_secs(60));
    load(&cache, "k", "old").await;
    world.server.command(&["DEL", "item:k"]).await.unwrap();
    gets(&cache, "k", None).await;
    let key = larder_core::Key::from_stored_name("jobs:1");
    let held = lock.acquire(&key, BOUND).await.unwrap();
    assert!(other.try_acquire(&key).await.unwrap().is_none());
    let next = tokio::spawn(async move { other.acquire(&key, BOUND).await.map(drop) });
    held.release().await.unwrap();
    next.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn invalidations_and_failed_loads_are_counted_where_they_happen() {
    let larder = builder_of(&[policy(), named("hasty").load_timeout(ms(100))])
        .build()
        .await
        .unwrap();
    let (items, hasty): (Items, Items) = (
        larder.cache("item").unwrap(),
        larder.cache("hasty").unwrap(),
    );
    larder
        .invalidate([items.key("1"), items.key("2"), hasty.key("1")])
        .await
        .unwrap();
    items.invalidate("3").await.unwrap();
    assert_eq!(
        (items.stats().invalidations, hasty.stats().invalidations),
        (3, 1)
    );
    let hang = || std::future::pending::<Result<String, std::convert::Infallible>>();
    assert!(hasty.get_or_load("hangs", hang).await.is_err());
    let panic =
        || -> std::future::Ready<Result<String, std::convert::Infallible>> { panic!("on purpose") };
    // Not under the limit of 100 ms: a panic prints its backtrace first, which can take longer.
    assert!(items.get_or_load("panics", panic).await.is_err());
    for cache in [&items, &hasty] {
        assert_eq!((cache.stats().loads, cache.stats().load_errors), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_removes_thousands_of_keys_of_its_own_row_only() {
    let world = World::new().await;
    let mut foreign = world.server.client().await.unwrap();
    for n in 0..2000 {
        foreign
            .command(&["SET", &format!("item:{n}"), "\"value\""])
            .await
            .unwrap();
    }
    for key in ["items:1", "other:1", "item"] {
        foreign.command(&["SET", key, "\"value\""]).await.unwrap();
    }
    world.items().await.clear().await.unwrap();
    // The process keeps the marks of its lanes.
    let left = names(&world.server, "*").await.into_iter();
    let left = left.filter(|name| !name.starts_with("larder:probe:mark:"));
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["item", "items:1", "other:1"]);
}
