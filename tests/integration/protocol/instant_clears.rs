//! Instant clears: a policy is emptied in one step, in every process, by a tag that all its values
//! have.

use std::convert::Infallible;

use larder_testkit::Gate;

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load},
    cluster::names,
    policy::{MINUTE, builder_of, policy},
    redis::config,
    wait::{BOUND, holds},
    world::World,
};

/// P25 clear-leaves-nothing: an instant clear takes one step, and leaves nothing that anybody could
/// be served.
#[tokio::test(flavor = "multi_thread")]
async fn instant_clear_is_one_step_in_every_process() {
    let world = World::new().await;
    let policies = [policy().instant_clear(true).negative_ttl(5 * MINUTE)];
    let (one, other) = (
        world.larder_of(&policies).await,
        world.larder_of(&policies).await,
    );
    let (here, there): (Items, Items) = (one.cache("item").unwrap(), other.cache("item").unwrap());
    for n in 0..100 {
        here.insert(n.to_string(), "old".to_owned()).await.unwrap();
        assert_eq!(get(&there, &n.to_string()).await.as_deref(), Some("old"));
    }
    let none = here
        .find_or_load("none", || async { Ok::<_, Infallible>(None::<String>) })
        .await;
    assert!(none.unwrap().is_none());
    let gate = Gate::new();
    let loading = [
        slow_load(&here, "here", "old", &gate),
        slow_load(&there, "there", "old", &gate),
    ];
    gate.reached_by(2).await;
    // Each store tries a scan when it connects.
    let tried = world.calls(&["scan", "unlink"]).await;
    there.clear().await.unwrap();
    assert_eq!(
        world.calls(&["scan", "unlink"]).await,
        tried,
        "nothing is looked for"
    );
    gate.open();
    for loading in loading {
        loading.await.unwrap().unwrap();
    }
    let late = world.cache(&policies[0]).await;
    for key in (0..100)
        .map(|n| n.to_string())
        .chain(["here".to_owned(), "there".to_owned()])
    {
        assert_eq!(get(&there, &key).await, None, "{key}");
        assert_eq!(get(&late, &key).await, None, "{key}");
        gets(&here, &key, None).await;
    }
    load(&here, "0", "new").await;
    assert_eq!(get(&late, "0").await.as_deref(), Some("new"));
    one.clear().await.unwrap();
    assert_eq!(get(&here, "0").await, None);
    assert_eq!(get(&world.cache(&policies[0]).await, "0").await, None);
}

/// The name is part of the protocol: a process that knew another one would clear nothing.
#[tokio::test(flavor = "multi_thread")]
async fn pin_of_a_policy_has_its_prefix_in_its_name() {
    let world = World::new().await;
    let cache = world.cache(&policy().instant_clear(true)).await;
    load(&cache, "k", "value").await;
    assert_eq!(
        names(&world.server, "larder:{tags}:*").await,
        ["larder:{tags}:policy:item"]
    );
}

/// P25 clear-leaves-nothing: what a clear would not remove is not served.
#[tokio::test(flavor = "multi_thread")]
async fn plain_value_in_a_policy_of_instant_clears_is_replaced() {
    let world = World::new().await;
    let instant = policy().instant_clear(true);
    let cache = world.cache(&instant).await;
    world
        .server
        .command(&["SET", "item:k", "\"foreign\""])
        .await
        .unwrap();
    assert_eq!(get(&cache, "k").await, None);
    assert_eq!(load(&cache, "k", "loaded").await, "loaded");
    holds("it is in L2", || cache.stats().refused == 0).await;
    let late = world.cache(&instant).await;
    assert_eq!(get(&late, "k").await.as_deref(), Some("loaded"));
}

/// P11 unsent-goes-first: so is an instant clear.
#[tokio::test(flavor = "multi_thread")]
async fn instant_clear_while_cut_off_is_empty_when_redis_is_back() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let instant = policy().instant_clear(true);
    let larder = builder_of(std::slice::from_ref(&instant));
    let larder = larder
        .redis_config(config(proxy.url()))
        .build()
        .await
        .unwrap();
    let cache: Items = larder.cache("item").unwrap();
    cache.insert("k", "old".to_owned()).await.unwrap();
    proxy.refuse(true);
    proxy.cut();
    cache.clear().await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    proxy.refuse(false);
    let late = world.cache(&instant).await;
    gets(&late, "k", None).await;
    assert_eq!(get(&cache, "k").await, None);
}

/// A frame that this version does not know is a miss that heals itself.
#[tokio::test(flavor = "multi_thread")]
async fn broken_frame_is_a_miss_that_is_replaced() {
    let world = World::new().await;
    let cache = world.items().await;
    load_tagged(&cache, "k", "v", "t").await;
    let mut client = world.server.client().await.unwrap();
    client
        .command(&["SETRANGE", "item:k", "1", "\u{7F}"])
        .await
        .unwrap(); // another version
    gets(&cache, "k", None).await;
    assert_eq!(load_tagged(&cache, "k", "again", "t").await, "again");
    assert_eq!(
        get(&world.items().await, "k").await.as_deref(),
        Some("again")
    );
    assert!(cache.stats().undecodable >= 1);
    tokio::time::timeout(BOUND, cache.get("k"))
        .await
        .unwrap()
        .unwrap();
}
