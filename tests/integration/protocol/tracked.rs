//! A server remembers only the names that a process keeps or waits for.

use std::convert::Infallible;

use larder::{Cache, Levels, Policy};
use larder_testkit::{Gate, RedisServer};
use tokio::time::Instant;

use crate::support::{
    calls::{Items, Numbers, get, gets, load, slow_load, slow_write, start_load, value},
    policy::{MINUTE, builder_of, named, policy},
    wait::{BOUND, woken},
    world::{World, cache_of},
};

/// The names that a process reads in any case, such as those of its probes, and the absences that
/// its two lanes have tracked before they are many.
const SLACK: u64 = 2 * 100 + 50;

/// The names that the server tracks.
async fn tracked(server: &RedisServer) -> u64 {
    let stats = server.command(&["INFO", "stats"]).await.unwrap();
    let stats = stats.text().unwrap();
    let count = stats
        .lines()
        .find_map(|line| line.strip_prefix("tracking_total_keys:"));
    count.unwrap().trim().parse().unwrap()
}

async fn nothing(cache: &Numbers, key: u64) {
    let found = cache.find_or_load(key, || async { Ok::<_, Infallible>(None::<String>) });
    assert_eq!(found.await.unwrap(), None);
}

/// Looks for keys that do not exist, until each of two lanes tracks none of them any more.
async fn miss_often(cache: &Items) {
    let absent: Vec<String> = (0..1000).map(|n| format!("absent{n}")).collect();
    assert!(cache.get_many(&absent).await.unwrap().is_empty());
}

/// Set to a number, it multiplies the number of absent keys: with 300, about a million are looked
/// up, and 150,000 are invalidated.
const SCALE: &str = "LARDER_ABSENT_KEYS";

/// P33 only-kept-is-tracked: neither lookups nor loads that find nothing, nor invalidations, take
/// the server's memory from the values.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_tracked_and_evicts_nothing() {
    const CACHED: u64 = 500;
    let scale = std::env::var(SCALE).map_or(1, |scale| scale.parse().unwrap());
    let key = |n: u64| format!("{n:055}");
    let server = RedisServer::builder()
        .args(&["--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru"])
        .start()
        .await
        .unwrap();
    let for_a_day = Policy::builder("item", 24 * 60 * MINUTE);
    let config = larder_redis::RedisConfig::new(server.url()).lanes(2);
    let users: Items = cache_of(builder_of(&[for_a_day]).redis_config(config)).await;
    for user in 0..CACHED {
        load(&users, &key(user), "a user").await;
    }
    let of_values = tracked(&server).await;
    assert!(of_values <= CACHED + SLACK, "one for each: {of_values}");

    let absent = |part: u64, many: u64| (0..many * scale).map(move |n| key(part << 32 | n));
    for absent in absent(1, 2000) {
        assert_eq!(get(&users, &absent).await, None);
    }
    for absent in absent(2, 300) {
        let loaded = users.find_or_load(absent, || async { Ok::<_, Infallible>(None::<String>) });
        assert_eq!(loaded.await.unwrap(), None);
    }
    for many in absent(3, 1000).collect::<Vec<_>>().chunks(500) {
        assert!(users.get_many(many).await.unwrap().is_empty());
    }
    for absent in absent(4, 500) {
        users.invalidate(&absent).await.unwrap();
        let writer = || async { Ok::<_, Infallible>(()) };
        users.write_around(&absent, writer).await.unwrap();
    }
    let of_all = tracked(&server).await;
    assert!(of_all <= CACHED + SLACK, "of {of_values} values: {of_all}");
    for user in 0..CACHED {
        let key = format!("item:{}", key(user));
        let value = server.command(&["GET", &key]).await.unwrap().text();
        assert!(value.is_some(), "{key} was evicted");
    }
}

/// P33 only-kept-is-tracked: also with a short life in L2 that a reader looks at.
#[tokio::test(flavor = "multi_thread")]
async fn policy_without_l1_has_nothing_tracked() {
    let world = World::new().await;
    let in_l2 = policy().levels(Levels::L2);
    let sessions = [
        world.cache_by::<u64>(&in_l2).await,
        world
            .cache_by::<u64>(&in_l2.clone().negative_ttl(MINUTE))
            .await,
    ];
    let before = tracked(&world.server).await;
    for cache in &sessions {
        for key in 0..50 {
            assert_eq!(cache.get(key).await.unwrap(), None);
            let loaded = cache.get_or_load(key, || value("loaded")).await;
            assert_eq!(**loaded.unwrap(), *"loaded");
            assert!(cache.get(key).await.unwrap().is_some());
            nothing(cache, 1000 + key).await;
            let written = cache.write_through(key, || value("written")).await;
            assert_eq!(**written.unwrap(), *"written");
        }
        let keys: Vec<u64> = (0..100).collect();
        assert_eq!(cache.get_many(&keys).await.unwrap().len(), 50);
        cache.invalidate_many(&keys).await.unwrap();
    }
    let after = tracked(&world.server).await;
    assert!(after <= before + 10, "{before} names, then {after}");
}

/// P33 only-kept-is-tracked, P12 tracking-never-assumed: a lane that looks for what does not exist
/// is told of the values that it finds.
#[tokio::test(flavor = "multi_thread")]
async fn value_found_among_many_absences_disappears_from_l1_when_it_changes() {
    let world = World::new().await;
    let [loader, reader] = [world.items().await, world.items().await];
    miss_often(&loader).await;
    miss_often(&reader).await;
    let large = "x".repeat(200_000);
    for (n, content) in ["small", large.as_str(), "small again"]
        .into_iter()
        .enumerate()
    {
        for many in [false, true] {
            let key = format!("k{n}{many}");
            assert_eq!(load(&loader, &key, content).await, content);
            let ranges = world.calls(&["mget", "getrange"]).await;
            if many {
                let found = reader.get_many(std::slice::from_ref(&key)).await.unwrap();
                assert_eq!(found[&key].as_str(), content);
            } else {
                assert_eq!(get(&reader, &key).await.as_deref(), Some(content));
            }
            let plain = world.calls(&["mget", "getrange"]).await - ranges;
            // Out of band, once a large value was met.
            assert!(plain <= u64::from(n > 0), "{key}: {plain} plain reads");
            let name = format!("item:{key}");
            world.server.command(&["DEL", &name]).await.unwrap();
            for cache in [&loader, &reader] {
                gets(cache, &key, None).await;
            }
        }
    }
}

/// P33 only-kept-is-tracked: once the keys exist again, reads cost what they did.
#[tokio::test(flavor = "multi_thread")]
async fn lookups_whose_keys_are_loaded_are_no_absences() {
    let world = World::new().await;
    let [one, other]: [Cache<u64, String>; 2] = [world.numbers().await, world.numbers().await];
    for key in 0..600 {
        one.get_or_load(key, || value("v")).await.unwrap();
    }
    let before = world.calls(&["evalsha", "eval"]).await;
    for key in 0..600 {
        assert!(one.get(key).await.unwrap().is_some());
        assert!(other.get(key).await.unwrap().is_some());
    }
    let scripts = world.calls(&["evalsha", "eval"]).await - before;
    assert!(scripts < 50, "{scripts} scripts"); // the marks of the lanes have none
}

/// P14 no-wait-for-expiry-push, P33 only-kept-is-tracked: what is waited for is tracked, also for a
/// policy without L1.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_waits_for_another_process_is_woken_without_l1() {
    let world = World::new().await;
    let policies = [policy().levels(Levels::L2).lease(MINUTE), named("other")];
    let [holder, waiter]: [Items; 2] = [
        world.larder_of(&policies).await.cache("item").unwrap(),
        world.larder_of(&policies).await.cache("item").unwrap(),
    ];
    let gate = Gate::new();
    let loading = slow_load(&holder, "k", "loaded", &gate);
    gate.reached().await;
    let before = world.calls(&["pttl"]).await;
    let waiting = start_load(&waiter, "k", "another");
    waits_for_lease(&world, before).await;
    gate.open();
    assert_eq!(**loading.await.unwrap().unwrap(), *"loaded");
    assert_eq!(**woken(waiting).await.unwrap().unwrap(), *"loaded");

    let gate = Gate::new();
    let writing = slow_write(&holder, "written", &gate);
    gate.reached().await;
    let before = world.calls(&["pttl"]).await;
    let waiting = slow_write(&waiter, "written later", &Gate::opened());
    waits_for_lease(&world, before).await;
    gate.open();
    assert_eq!(**writing.await.unwrap().unwrap(), *"written");
    assert_eq!(**woken(waiting).await.unwrap().unwrap(), *"written later");
}

/// Waits until a process has been told of a lease that another one holds: a script has asked for
/// the rest of the lease.
async fn waits_for_lease(world: &World, before: u64) {
    let give_up = Instant::now() + BOUND;
    while world.calls(&["pttl"]).await == before {
        assert!(Instant::now() < give_up, "nobody waits");
        tokio::task::yield_now().await;
    }
}

/// A server forgets its scripts when it restarts, and whenever somebody says so.
#[tokio::test(flavor = "multi_thread")]
async fn values_are_found_among_many_absences_though_the_server_has_forgotten_the_script() {
    let world = World::new().await;
    let [reader, writer]: [Items; 2] = [world.items().await, world.items().await];
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        load(&writer, key, "v").await;
    }
    miss_often(&reader).await;
    let forget = async || {
        let said = world.server.command(&["SCRIPT", "FLUSH"]).await.unwrap();
        assert_eq!(said.text().as_deref(), Some("OK"));
    };
    forget().await;
    assert_eq!(reader.get_many(&keys[..4]).await.unwrap().len(), 4);
    forget().await;
    assert_eq!(get(&reader, "e").await.as_deref(), Some("v"));
}
