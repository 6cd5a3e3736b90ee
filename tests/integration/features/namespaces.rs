//! Two namespaces on one server: neither sees the other's keys, leases, tags, clears or messages.

use larder::Larder;
use larder_testkit::Gate;

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load},
    cluster::names as names_like,
    policy::builder,
    world::World,
};

/// A process in this namespace, with one lane, so that all it hears comes in one order.
async fn process(world: &World, namespace: &str) -> (Larder, Items) {
    let builder = builder()
        .redis_config(world.config().lanes(1))
        .namespace(namespace);
    let larder = builder.build().await.unwrap();
    let items = larder.cache("item").unwrap();
    (larder, items)
}

/// All names that the server has.
async fn names(world: &World) -> Vec<String> {
    names_like(&world.server, "*").await
}

/// Waits until `hearer` has heard all that was said before this on its server.
async fn catch_up(speaker: &Items, hearer: &Items) {
    speaker.insert("sentinel", "old".to_owned()).await.unwrap();
    gets(hearer, "sentinel", Some("old")).await;
    speaker.insert("sentinel", "new".to_owned()).await.unwrap();
    gets(hearer, "sentinel", Some("new")).await;
}

async fn is_in_l1(cache: &Items, key: &str, expected: &str) {
    let hits = cache.stats().l1_hits;
    assert_eq!(get(cache, key).await.as_deref(), Some(expected));
    assert_eq!(cache.stats().l1_hits, hits + 1, "{key} has left L1");
}

async fn nothing_crosses(world: &World) {
    let (north, items) = process(world, "north").await;
    let (_south, others) = process(world, "south").await;
    let (_second, beside) = process(world, "south").await;
    load(&items, "k", "north").await;
    load_tagged(&items, "tagged", "north", "t").await;
    assert_eq!(get(&others, "k").await, None);
    load(&others, "k", "south").await;
    load_tagged(&others, "tagged", "south", "t").await;
    for (cache, value) in [(&items, "north"), (&others, "south")] {
        assert_eq!(get(cache, "k").await.as_deref(), Some(value));
    }

    let changes = ["write", "invalidate", "tag", "clear", "clear all"];
    for change in changes {
        match change {
            "write" => items.insert("k", "newer".to_owned()).await.unwrap(),
            "invalidate" => items.invalidate("k").await.unwrap(),
            "tag" => north.invalidate_tag("t").await.unwrap(),
            "clear" => items.clear().await.unwrap(),
            _ => north.clear().await.unwrap(),
        }
        catch_up(&beside, &others).await;
        for key in ["k", "tagged"] {
            is_in_l1(&others, key, "south").await;
            assert_eq!(
                get(&beside, key).await.as_deref(),
                Some("south"),
                "{change}: {key} in L2"
            );
        }
    }
    assert_eq!(
        (get(&items, "k").await, get(&items, "tagged").await),
        (None, None)
    );

    // A lease holds up its own namespace alone.
    let gate = Gate::new();
    let loading = slow_load(&items, "leased", "north", &gate);
    gate.reached().await;
    assert_eq!(load(&others, "leased", "south").await, "south");
    gate.open();
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "north");

    let names = names(world).await;
    assert!(!names.is_empty());
    let outside: Vec<&String> = names
        .iter()
        .filter(|name| !["north/", "south/"].iter().any(|of| name.starts_with(of)))
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_on_a_server_that_tracks_see_nothing_of_each_other() {
    nothing_crosses(&World::new().await).await;
}

/// The larder's own keys lie where its leases and tags do.
#[tokio::test(flavor = "multi_thread")]
async fn namespace_of_the_redis_options_alone_holds_for_the_whole_larder() {
    let world = World::new().await;
    let options = || world.config().namespace("north");
    for builder in [
        builder().redis_config(options()),
        builder().redis_config(options()).namespace("north"),
    ] {
        let larder = builder.build().await.unwrap();
        let items: Items = larder.cache("item").unwrap();
        load_tagged(&items, "k", "value", "t").await;
        assert_eq!(items.key("k").as_str(), "north/item:k");
        let names = names(&world).await;
        assert!(names.contains(&"north/item:k".to_owned()), "{names:?}");
        assert!(
            names.iter().all(|name| name.starts_with("north/")),
            "{names:?}"
        );
        larder.clear().await.unwrap();
    }
}

/// P26 scripts-publish: each namespace has a channel of its own.
#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_on_a_server_that_refuses_tracking_see_nothing_of_each_other() {
    nothing_crosses(&World::without_tracking().await).await;
}
