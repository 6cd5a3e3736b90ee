//! Large values, which travel beside the lanes.

use larder::{Larder, Levels, RedisConfig};
use larder_testkit::{Gate, Proxy};
use larder_ttl::PolicyBuilder;
use tokio::{task::JoinHandle, time::timeout};

use crate::support::{
    calls::{Items, get, gets, slow_load, slow_write},
    policy::{MINUTE, SECOND, builder_of, named, policy},
    wait::{BOUND, holds},
    world::{World, waits_for_the_lease},
};

const LARGE: usize = 1024 * 1024;

/// More than the part of a large value that a lane reads, and less than the whole.
const NARROW: usize = 100_000;

/// A process whose keys all take one lane, on a link that can be made narrow.
async fn through(proxy: &Proxy, policies: &[PolicyBuilder]) -> Larder {
    // No time-out and no probe loses the lane while a test leads its address elsewhere.
    let config = RedisConfig::new(proxy.url())
        .lanes(1)
        .command_timeout(BOUND * 2)
        .probe_interval(BOUND * 2);
    builder_of(policies)
        .redis_config(config)
        .build()
        .await
        .unwrap()
}

fn large(text: &str) -> String {
    text.repeat(LARGE / text.len())
}

fn reads(cache: &Items, key: &'static str) -> JoinHandle<Option<String>> {
    let cache = cache.clone();
    tokio::spawn(async move { get(&cache, key).await })
}

async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    timeout(BOUND, call)
        .await
        .unwrap_or_else(|_| panic!("{what} is held up"))
}

/// P29 large-out-of-band: also what is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn large_value_on_a_slow_link_holds_up_no_small_one() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let policies = [policy(), named("shared").levels(Levels::L2)];
    let (larder, other) = (
        through(&proxy, &policies).await,
        world.larder_of(&policies).await,
    );
    for (round, name) in ["item", "shared"].into_iter().enumerate() {
        let [here, there]: [Items; 2] = [&larder, &other].map(|larder| larder.cache(name).unwrap());
        there.insert("large", large("large")).await.unwrap();
        there.insert("small", "small".to_owned()).await.unwrap();
        proxy.narrow(Some(NARROW));
        let reading = reads(&here, "large");
        proxy.holds_back(2 * round + 1).await;
        assert_eq!(
            in_time("a read", get(&here, "small")).await.as_deref(),
            Some("small")
        );
        in_time("a write", here.insert("small", "new".to_owned()))
            .await
            .unwrap();
        assert_eq!(
            in_time("a read", get(&here, "small")).await.as_deref(),
            Some("new")
        );
        assert!(!reading.is_finished());
        proxy.narrow(None);
        assert_eq!(reading.await.unwrap(), Some(large("large")));

        proxy.narrow(Some(NARROW));
        let gate = Gate::new();
        let writing = slow_write(&here, &large("written"), &gate);
        gate.open();
        proxy.holds_back(2 * round + 2).await;
        assert_eq!(
            in_time("a read", get(&here, "small")).await.as_deref(),
            Some("new")
        );
        assert!(!writing.is_finished());
        proxy.narrow(None);
        assert_eq!(*writing.await.unwrap().unwrap(), large("written"));
        assert_eq!(get(&there, "k").await, Some(large("written")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_value_that_another_process_has_loaded_is_claimed_beside_the_lane() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let patient = [policy().lease(MINUTE).max_wait(MINUTE)];
    let (here, there): (Items, Items) = (
        through(&proxy, &patient).await.cache("item").unwrap(),
        world.larder_of(&patient).await.cache("item").unwrap(),
    );
    there.insert("small", "small".to_owned()).await.unwrap();
    let gate = Gate::new();
    let loading = slow_load(&there, "k", &large("loaded"), &gate);
    gate.reached().await;
    let waiting = slow_load(&here, "k", "must not be loaded", &Gate::new());
    waits_for_the_lease(&world, "item:k", 2).await;
    proxy.narrow(Some(NARROW));
    gate.open();
    proxy.holds_back(1).await;
    assert_eq!(
        in_time("a read", get(&here, "small")).await.as_deref(),
        Some("small")
    );
    proxy.narrow(None);
    for load in [loading, waiting] {
        assert_eq!(*load.await.unwrap().unwrap(), large("loaded"));
    }
}

/// P29 large-out-of-band: a value that is changed while it travels is told of.
#[tokio::test(flavor = "multi_thread")]
async fn large_value_that_is_replaced_on_its_way_does_not_stay_in_l1() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let here: Items = through(&proxy, &[policy()]).await.cache("item").unwrap();
    let there = world.items().await;
    there.insert("large", large("old")).await.unwrap();
    proxy.narrow(Some(NARROW));
    let reading = reads(&here, "large");
    proxy.holds_back(1).await;
    there.insert("large", "new".to_owned()).await.unwrap();
    proxy.narrow(None);
    assert_eq!(
        reading.await.unwrap(),
        Some(large("old")),
        "it came before the write"
    );
    // the push comes over the lane, in no order with the value
    gets(&here, "large", Some("new")).await;
}

/// P4 l1-read-from-l2, P29 large-out-of-band: however a large value enters L1, its key is tracked.
#[tokio::test(flavor = "multi_thread")]
async fn large_value_in_l1_is_invalidated_by_others() {
    let world = World::new().await;
    let larders = [world.larder().await, world.larder().await];
    let [writer, reader]: [Items; 2] = [0, 1].map(|n: usize| larders[n].cache("item").unwrap());
    for round in 0..20 {
        let text = large(&format!("{round:08}"));
        writer.insert("large", text.clone()).await.unwrap();
        gets(&reader, "large", Some(&text)).await;
        for cache in [&writer, &reader] {
            let hits = cache.stats().l1_hits;
            assert_eq!(get(cache, "large").await.as_ref(), Some(&text));
            assert_eq!(cache.stats().l1_hits, hits + 1, "it is kept");
        }
        world
            .server
            .command(&["SET", "item:large", "\"foreign\""])
            .await
            .unwrap();
        for cache in [&writer, &reader] {
            gets(cache, "large", Some("foreign")).await;
        }
    }
}

/// A value that takes too long is loaded instead, and the lane goes on.
#[tokio::test(flavor = "multi_thread")]
async fn large_value_that_takes_too_long_costs_no_connection() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let config = RedisConfig::new(proxy.url())
        .lanes(1)
        .command_timeout(SECOND);
    let in_l2 = policy().levels(Levels::L2);
    let policies = std::slice::from_ref(&in_l2);
    let larder = builder_of(policies)
        .redis_config(config)
        .build()
        .await
        .unwrap();
    let (here, there): (Items, Items) = (larder.cache("item").unwrap(), world.cache(&in_l2).await);
    there.insert("large", large("large")).await.unwrap();
    there.insert("small", "small".to_owned()).await.unwrap();
    proxy.narrow(Some(NARROW));
    assert_eq!(get(&here, "large").await, None);
    assert_eq!(get(&here, "small").await.as_deref(), Some("small"));
    proxy.narrow(None);
    assert_eq!(get(&here, "large").await, Some(large("large")));
    let stats = larder.stats();
    assert_eq!((stats.lanes_lost, stats.breaker_opened), (0, 0));
}

/// P29 large-out-of-band: many keys at once, from the first large value on.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_among_many_hold_up_no_small_one() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let (larder, other) = (through(&proxy, &[policy()]).await, world.larder().await);
    let [here, there]: [Items; 2] = [&larder, &other].map(|larder| larder.cache("item").unwrap());
    there
        .insert_many([("large", large("large")), ("first", large("first"))])
        .await
        .unwrap();
    there
        .insert_many(["small", "other", "third"].map(|key| (key, key.to_owned())))
        .await
        .unwrap();
    assert_eq!(get(&here, "first").await, Some(large("first")));
    proxy.narrow(Some(NARROW));
    let reading = tokio::spawn({
        let cache = here.clone();
        async move { cache.get_many(&["large", "small", "none"]).await.unwrap() }
    });
    proxy.holds_back(1).await;
    assert_eq!(
        in_time("a read", get(&here, "other")).await.as_deref(),
        Some("other")
    );
    // What is on its way is told of like anything else.
    there.insert("small", "new".to_owned()).await.unwrap();
    proxy.narrow(None);
    let found = reading.await.unwrap();
    assert!(
        found.len() == 2 && *found["large"] == large("large"),
        "{:?}",
        found.keys()
    );
    gets(&here, "small", Some("new")).await;
}

/// P29 large-out-of-band: a value comes from the server that tells the lane of its changes, or not
/// at all.
#[tokio::test(flavor = "multi_thread")]
async fn large_value_of_another_server_at_the_same_address_is_not_taken() {
    let (world, failed_over) = (World::new().await, World::new().await);
    let proxy = world.proxy().await;
    let policies = [policy(), named("shared").levels(Levels::L2)];
    let larder = through(&proxy, &policies).await;
    for (round, name) in (1..).zip(["item", "shared"]) {
        let (second, third) = (
            world.larder_of(&policies).await,
            failed_over.larder_of(&policies).await,
        );
        let caches = [&larder, &second, &third].map(|of| of.cache(name).unwrap());
        let [here, there, elsewhere]: [Items; 3] = caches;
        there.insert("large", large("new")).await.unwrap();
        there.insert("small", "small".to_owned()).await.unwrap();
        elsewhere.insert("large", large("old")).await.unwrap();
        proxy.lead_to(&failed_over.server.addr()); // the lane stays where it is
        assert_eq!(get(&here, "large").await, None);
        assert_eq!(here.get_many(&["large"]).await.unwrap().len(), 0);
        assert_eq!(get(&here, "small").await.as_deref(), Some("small"));
        proxy.lead_to(&world.server.addr());
        assert_eq!(get(&here, "large").await, Some(large("new")));
        proxy.cut();
        holds("the lane is lost", || larder.stats().lanes_lost == round).await;
        gets(&here, "small", Some("small")).await; // and connected again
    }
}
