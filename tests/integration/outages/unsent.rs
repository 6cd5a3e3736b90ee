//! Invalidations unsent during an outage take bounded memory, and go before any read.

use std::sync::Arc;

use larder_core::{Invalidated, KeyBuf, LaneIndex, LaneState, Lanes, TagStore, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::{Client, Gate, Proxy, RedisServer};
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, load, slow_write},
    policy::builder,
    redis::config,
    store::{are, cut_off, key},
    wait::{BOUND, holds},
    world::{World, cache_of},
};

/// P11 unsent-goes-first: a clear on return takes as long as Redis has keys, and no writer waits
/// for it.
#[tokio::test(flavor = "multi_thread")]
async fn invalidation_during_a_long_clear_does_not_wait_for_it() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let config = config(proxy.url())
        .lanes(1)
        .max_unsent(0)
        .command_timeout(BOUND);
    let store = RedisStore::connect(config).await.unwrap();
    cut_off(&store, &proxy).await;
    // The store tries a scan when it connects first.
    server.command(&["CONFIG", "RESETSTAT"]).await.unwrap();
    for name in ["item:1", "other:1"] {
        server.command(&["SET", name, "old"]).await.unwrap();
    }
    assert_eq!(
        store.invalidate(&key("item", 1), None).await.unwrap(),
        Invalidated::Deferred
    );
    server
        .command(&["CLIENT", "PAUSE", "60000", "WRITE"])
        .await
        .unwrap(); // a scan is answered, a deletion is not
    proxy.refuse(false);
    let give_up = Instant::now() + BOUND;
    while !server
        .command(&["INFO", "commandstats"])
        .await
        .unwrap()
        .text()
        .unwrap()
        .contains("cmdstat_scan:")
    {
        assert!(Instant::now() < give_up, "it does not clear");
    }
    let remembered =
        tokio::time::timeout(BOUND / 2, store.invalidate(&key("other", 1), None)).await;
    assert_eq!(
        remembered.expect("it waits for the clear").unwrap(),
        Invalidated::Deferred
    );
    assert_eq!(
        (store.lane_state(LaneIndex(0)), store.stats().unsent),
        (LaneState::Down, 2)
    );
    server.command(&["CLIENT", "UNPAUSE"]).await.unwrap();
    holds("it is back", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    assert_eq!((store.stats().unsent, store.stats().resent), (0, 2));
    for name in ["item:1", "other:1"] {
        assert_eq!(store.get(name).await.unwrap(), None, "{name}");
    }
}

/// Names that do not begin with the policy's prefix, though some look like it.
const OTHERS: [&str; 4] = ["items:1", "item", "other:1", "ite:1"];

/// Sets old values of the policy, and values of others.
async fn fill(foreign: &mut Client) {
    for n in 0..2000 {
        foreign
            .command(&["SET", &format!("item:{n}"), "\"old\""])
            .await
            .unwrap();
    }
    for other in OTHERS {
        foreign.command(&["SET", other, "theirs"]).await.unwrap();
    }
}

async fn others_are_left(foreign: &mut Client) {
    for other in OTHERS {
        assert_eq!(
            foreign
                .command(&["GET", other])
                .await
                .unwrap()
                .text()
                .as_deref(),
            Some("theirs"),
            "{other}"
        );
    }
}

/// P11 unsent-goes-first, P25 clear-leaves-nothing: what is invalidated during a long outage takes
/// bounded memory, and is gone from Redis after it.
#[tokio::test(flavor = "multi_thread")]
async fn million_keys_invalidated_in_an_outage_end_as_a_clear_of_their_prefix() {
    const MAX: usize = 10_000;
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let store = Arc::new(
        RedisStore::connect(config(proxy.url()).max_unsent(MAX))
            .await
            .unwrap(),
    );
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let mut foreign = server.client().await.unwrap();
    fill(&mut foreign).await;
    cut_off(&store, &proxy).await;
    let mut most = 0;
    for n in 0..1_000_000 {
        let key = KeyBuf::format("item", &n).to_key();
        assert_eq!(
            store.invalidate(&key, None).await.unwrap(),
            Invalidated::Deferred
        );
        most = most.max(store.stats().unsent);
    }
    let most_of_lanes = 2 * MAX as u64;
    assert!(
        most > 10_000 && most <= most_of_lanes,
        "{most} were remembered at once"
    );
    assert_eq!(store.stats().unsent, 2, "one prefix for each lane");
    proxy.refuse(false);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    for n in 0..2000 {
        assert_eq!(get(&cache, &n.to_string()).await, None, "{n}");
    }
    others_are_left(&mut foreign).await;
    assert_eq!((store.stats().unsent, store.stats().resent), (0, 2));
}

/// P11 unsent-goes-first: a process that may remember nothing clears the policy on return.
#[tokio::test(flavor = "multi_thread")]
async fn write_in_an_outage_with_nothing_remembered_clears_its_row_and_no_other() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let store = Arc::new(
        RedisStore::connect(config(proxy.url()).lanes(1).max_unsent(0))
            .await
            .unwrap(),
    );
    let larder = builder().remote_store(store.clone()).build().await.unwrap();
    let (item, other): (Items, Items) = (
        larder.cache("item").unwrap(),
        larder.cache("other").unwrap(),
    );
    for key in ["k", "unrelated"] {
        load(&item, key, "old").await;
        load(&other, key, "old").await;
    }
    cut_off(&store, &proxy).await;
    let gate = Gate::opened();
    assert_eq!(
        *slow_write(&item, "new", &gate).await.unwrap().unwrap(),
        "new"
    );
    assert_eq!((gate.arrivals(), store.stats().unsent), (1, 1));
    proxy.refuse(false);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    for (name, stored) in [
        ("item:k", None),
        ("item:unrelated", None),
        ("other:k", Some("\"old\"")),
    ] {
        assert_eq!(world.l2(name).await.as_deref(), stored, "{name}");
    }
}

/// P21 tags-pinned-in-time, P23 tags-pinned-before-commit: too many tags to remember come to all
/// tags.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_tags_invalidated_in_an_outage_end_as_all_tags() {
    let server = RedisServer::start().await.unwrap();
    let proxy = Proxy::start(&server.addr()).await.unwrap();
    let store = RedisStore::connect(config(proxy.url()).max_unsent(2))
        .await
        .unwrap();
    let other = RedisStore::connect(config(server.url()).command_timeout(BOUND))
        .await
        .unwrap();
    let tags: Vec<String> = (0..600).map(|n| format!("t{n}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let before = other.tag_epoch(LaneIndex(0)).await.unwrap();
    let held = other
        .pin_tags(LaneIndex(0), &tags, before, BOUND)
        .await
        .unwrap();
    assert!(held.iter().all(|held| *held == Some(before)));
    cut_off(&store, &proxy).await;
    for tag in &tags {
        assert_eq!(
            store.invalidate_tag(tag).await.unwrap(),
            Invalidated::Deferred
        );
        assert!(store.stats().unsent <= 4, "{:?}", store.stats());
    }
    assert_eq!(store.stats().unsent, 2, "once for each lane");
    proxy.refuse(false);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    assert!(
        other
            .tags(LaneIndex(0), &tags)
            .await
            .unwrap()
            .iter()
            .all(Option::is_none),
        "none is held"
    );
    let late = other
        .pin_tags(LaneIndex(0), &["t1", "never held"], before, BOUND)
        .await
        .unwrap();
    assert_eq!(late, [None, None], "nor by a load that began before");

    // Also if none is held at all, so that there is nothing to be found.
    let before = other.tag_epoch(LaneIndex(0)).await.unwrap();
    cut_off(&store, &proxy).await;
    for tag in &tags[..3] {
        store.invalidate_tag(tag).await.unwrap();
    }
    proxy.refuse(false);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    assert_eq!(
        other
            .pin_tags(LaneIndex(0), &["t1"], before, BOUND)
            .await
            .unwrap(),
        [None]
    );
}
