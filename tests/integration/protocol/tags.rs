//! Tags: what has a tag goes with it, at once, everywhere, and nothing else does.

use std::{convert::Infallible, io, sync::Arc};

use larder::{Error, Larder, Levels, Loaded};
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::{Direction, Gate, Reply};

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_tagged_load, start_load},
    gated::{Call, Gated, When, gated},
    policy::{builder, policy},
    redis::config,
    wait::holds,
    world::{World, cache_of, cache_on, process_of},
};

async fn pair(world: &World) -> [(Larder, Items); 2] {
    let (one, other) = (world.larder().await, world.larder().await);
    let items = |larder: &Larder| larder.cache("item").unwrap();
    let (of_one, of_other) = (items(&one), items(&other));
    [(one, of_one), (other, of_other)]
}

/// P21 tags-pinned-in-time: of any policy, in every level of every process.
#[tokio::test(flavor = "multi_thread")]
async fn invalidated_tag_takes_all_its_entries_with_it_and_no_others() {
    let world = World::new().await;
    let [(one, items), (other, elsewhere)] = pair(&world).await;
    let others: Items = one.cache("other").unwrap();
    load_tagged(&items, "a", "old", "org:7").await;
    load_tagged(&others, "b", "old", "org:7").await;
    load_tagged(&items, "c", "old", "org:8").await;
    load(&items, "d", "plain").await;
    for (key, value) in [("a", "old"), ("c", "old"), ("d", "plain")] {
        assert_eq!(
            get(&elsewhere, key).await.as_deref(),
            Some(value),
            "L2 has {key}"
        );
    }
    other.invalidate_tag("org:7").await.unwrap();
    assert_eq!(get(&elsewhere, "a").await, None);
    gets(&items, "a", None).await;
    gets(&others, "b", None).await;
    assert_eq!(
        get(&world.items().await, "a").await,
        None,
        "a process that starts later"
    );
    for (key, value) in [("c", "old"), ("d", "plain")] {
        for cache in [&items, &elsewhere, &world.items().await] {
            assert_eq!(get(cache, key).await.as_deref(), Some(value), "{key}");
        }
    }
}

/// Only what has tags has a frame: other programs read all the rest.
#[tokio::test(flavor = "multi_thread")]
async fn entry_without_tags_is_plain_json_and_one_with_tags_is_not() {
    let world = World::new().await;
    let cache = world.items().await;
    load(&cache, "plain", "v").await;
    load_tagged(&cache, "tagged", "v", "t").await;
    assert_eq!(world.l2("item:plain").await.as_deref(), Some("\"v\""));
    let Reply::Bytes(with_header) = world.server.command(&["GET", "item:tagged"]).await.unwrap()
    else {
        panic!()
    };
    assert!(
        with_header.starts_with(&[0xFB, 1]) && with_header.ends_with(b"\"v\""),
        "{with_header:?}"
    );
}

/// P24 tags-known-by-lane: what a lane has read of tags ends with its connection, also for what L2
/// is asked for afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn tag_removed_while_the_connection_was_lost_is_not_held_by_what_was_known() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let store = Arc::new(
        RedisStore::connect(config(proxy.url()).lanes(1))
            .await
            .unwrap(),
    );
    let cache = cache_on(store.clone(), &policy().levels(Levels::L2)).await;
    load_tagged(&cache, "k", "old", "t").await;
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("old"),
        "its tag is known here"
    );
    proxy.refuse(true);
    proxy.cut();
    world.larder().await.invalidate_tag("t").await.unwrap();
    holds("the loss is noticed", || {
        store.lane_state(LaneIndex(0)) == LaneState::Down
    })
    .await;
    proxy.refuse(false);
    holds("it is connected again", || {
        store.lane_state(LaneIndex(0)) == LaneState::Tracking
    })
    .await;
    assert_eq!(get(&cache, "k").await, None);
}

/// P9 reply-invalidates-again: what was read between the call and its script is out of date when
/// the call returns.
#[tokio::test(flavor = "multi_thread")]
async fn entry_read_before_its_tag_is_removed_is_not_served_after_it() {
    let world = World::new().await;
    load_tagged(&world.items().await, "k", "old", "t").await;
    let store = Gated::new(world.one_lane().await);
    let (larder, cache) = process_of(builder().remote_store(store.clone())).await;
    let sent = store.gate(Call::InvalidateTag, When::Before);
    let removing = tokio::spawn({
        let larder = larder.clone();
        async move { larder.invalidate_tag("t").await }
    });
    sent.reached().await;
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("old"),
        "the script has not run"
    );
    sent.open();
    removing.await.unwrap().unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

/// P22 epoch-before-load: a process that is told nothing asks for E each time, or its own entries
/// would be refused for ever.
#[tokio::test(flavor = "multi_thread")]
async fn process_that_is_told_nothing_still_caches_what_has_tags() {
    let world = World::refusing(&["-client|tracking", "-subscribe"]).await;
    let [(_one, items), (other, elsewhere)] = pair(&world).await;
    for (key, tag) in [("a", "t"), ("b", "u"), ("c", "t")] {
        load_tagged(&items, key, "v", tag).await;
        assert_eq!(get(&elsewhere, key).await.as_deref(), Some("v"), "{key}");
        other.invalidate_tag(tag).await.unwrap();
    }
}

/// P22 epoch-before-load: the new entry's number is from after the removal.
#[tokio::test(flavor = "multi_thread")]
async fn entry_loaded_after_its_tag_was_removed_lives_and_one_without_it_is_not_hit_again() {
    let world = World::new().await;
    let [(one, items), (other, elsewhere)] = pair(&world).await;
    for (n, remover) in [&one, &other, &one].into_iter().enumerate() {
        load_tagged(&items, "k", &format!("v{n}"), "t").await;
        remover.invalidate_tag("t").await.unwrap();
        gets(&items, "k", None).await;
        load_tagged(&items, "k", "next", "t").await;
        assert_eq!(get(&elsewhere, "k").await.as_deref(), Some("next"));
        assert_eq!(get(&items, "k").await.as_deref(), Some("next"));
        one.invalidate_tag("t").await.unwrap();
        gets(&elsewhere, "k", None).await;
    }
    load(&items, "k", "without").await;
    other.invalidate_tag("t").await.unwrap();
    assert_eq!(get(&items, "k").await.as_deref(), Some("without"));
    assert_eq!(
        items.stats().refused + elsewhere.stats().refused,
        0,
        "no load was refused needlessly"
    );
}

/// P21 tags-pinned-in-time: a lost T(t) makes misses, never hits; a lost E costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn evicted_tag_makes_its_entries_misses_and_a_lost_order_starts_higher() {
    let world = World::new().await;
    let [(one, items), (_, elsewhere)] = pair(&world).await;
    load_tagged(&items, "k", "old", "t").await;
    assert_eq!(get(&elsewhere, "k").await.as_deref(), Some("old"));
    world
        .server
        .command(&["DEL", "larder:{tags}:tag:t"])
        .await
        .unwrap();
    for cache in [&items, &elsewhere] {
        gets(cache, "k", None).await;
    }
    one.invalidate_tag("t").await.unwrap();
    let before = world
        .l2("larder:{tags}")
        .await
        .unwrap()
        .parse::<u64>()
        .unwrap();
    world
        .server
        .command(&["DEL", "larder:{tags}"])
        .await
        .unwrap();
    load_tagged(&items, "k", "new", "t").await;
    gets(&elsewhere, "k", Some("new")).await;
    let after = world
        .l2("larder:{tags}")
        .await
        .unwrap()
        .parse::<u64>()
        .unwrap();
    assert!(after > before, "{after} is not more than {before}");
}

/// P24 tags-known-by-lane: L1 asks nobody.
#[tokio::test(flavor = "multi_thread")]
async fn tagged_hit_in_l1_makes_no_call() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let cache: Items = cache_of(builder().redis_config(config(proxy.url()))).await;
    load_tagged(&cache, "k", "v", "t").await;
    proxy.stall(Direction::ToServer, true);
    let hits = cache.stats().l1_hits;
    for _ in 0..100 {
        assert_eq!(get(&cache, "k").await.as_deref(), Some("v"));
    }
    assert_eq!(cache.stats().l1_hits - hits, 100);
}

/// P24 tags-known-by-lane: one round trip once the tag is known through the lane, two before.
#[tokio::test(flavor = "multi_thread")]
async fn tagged_hit_in_l2_asks_for_its_tags_once() {
    let world = World::new().await;
    let writer = world.items().await;
    for n in 0..50 {
        load_tagged(&writer, &n.to_string(), "v", "t").await;
    }
    let (store, _, cache) = gated(&world).await;
    for n in 0..50 {
        assert_eq!(get(&cache, &n.to_string()).await.as_deref(), Some("v"));
    }
    assert_eq!(cache.stats().l2_hits, 50);
    assert!(store.calls(Call::Tags) <= usize::from(store.lanes()));
}

/// However many entries have the tag: none is looked for.
#[tokio::test(flavor = "multi_thread")]
async fn invalidated_tag_costs_the_same_for_one_entry_and_for_thousands() {
    let world = World::new().await;
    let [(one, items), _] = pair(&world).await;
    let changing = [
        "del", "unlink", "scan", "expire", "pexpire", "keys", "evalsha",
    ];
    one.invalidate_tag("the script is there").await.unwrap();
    let mut costs = Vec::new();
    for entries in [1, 3000] {
        for n in 0..entries {
            items
                .insert(n.to_string(), Loaded::new("v".to_owned()).tag("t"))
                .await
                .unwrap();
        }
        let before = world.calls(&changing).await;
        one.invalidate_tag("t").await.unwrap();
        costs.push(world.calls(&changing).await - before);
        assert_eq!(get(&items, "0").await, None);
    }
    assert_eq!(costs[0], costs[1]);
}

/// P11 unsent-goes-first: what was removed while Redis was away is removed before this process
/// reads it again.
#[tokio::test(flavor = "multi_thread")]
async fn tag_removed_while_cut_off_is_removed_before_anything_is_read() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let (larder, cache) = process_of(builder().redis_config(config(proxy.url()))).await;
    let elsewhere = world.items().await;
    for n in 0..20 {
        load_tagged(&cache, &n.to_string(), "old", "t").await;
        assert_eq!(
            get(&elsewhere, &n.to_string()).await.as_deref(),
            Some("old")
        );
    }
    proxy.refuse(true);
    proxy.cut();
    larder.invalidate_tag("t").await.unwrap();
    for n in 0..20 {
        assert_eq!(get(&cache, &n.to_string()).await, None, "at once here");
    }
    proxy.refuse(false);
    for n in 0..20 {
        assert_ne!(get(&cache, &n.to_string()).await.as_deref(), Some("old"));
    }
    for n in 0..20 {
        gets(&elsewhere, &n.to_string(), None).await;
    }
}

/// Without Redis the process has an order of its own.
#[tokio::test(flavor = "multi_thread")]
async fn tags_work_without_l2_also_during_a_load() {
    let (larder, cache) = process_of(builder()).await;
    load_tagged(&cache, "k", "old", "t").await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    larder.invalidate_tag("t").await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
    let gate = Gate::new();
    let loading = slow_tagged_load(&cache, "k", "old", "t", &gate);
    gate.reached().await;
    larder.invalidate_tag("t").await.unwrap();
    // P16 only-for-earlier-callers: joins the flight, and is not given what it loaded
    let late = start_load(&cache, "k", "new");
    gate.open();
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**late.await.unwrap().as_ref().unwrap(), "new");
    cache
        .write_through("k", || async {
            Ok::<_, Infallible>(Loaded::new("w".to_owned()).tag("t"))
        })
        .await
        .unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("w"));
    larder.invalidate_tag("t").await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

/// P23 tags-pinned-before-commit: the tag is removed after the tags were held, and before the
/// commit.
#[tokio::test(flavor = "multi_thread")]
async fn tag_removed_between_holding_and_commit_is_served_to_nobody_who_comes_later() {
    let world = World::new().await;
    let (store, larder, cache) = gated(&world).await;
    let elsewhere = world.larder().await;
    for (n, remover) in [&larder, &elsewhere].into_iter().enumerate() {
        let key = format!("k{n}");
        let gate = store.gate(Call::HoldTags, When::After);
        let loading = slow_tagged_load(&cache, &key, "old", "t", &Gate::opened());
        gate.reached().await;
        remover.invalidate_tag("t").await.unwrap();
        let name: &'static str = ["k0", "k1"][n];
        let late = start_load(&cache, name, "new");
        gate.open();
        assert_eq!(
            **loading.await.unwrap().as_ref().unwrap(),
            "old",
            "it came before"
        );
        assert_eq!(
            **late.await.unwrap().as_ref().unwrap(),
            "new",
            "P16 only-for-earlier-callers: it came after"
        );
        assert_eq!(get(&cache, &key).await.as_deref(), Some("new"));
        assert_eq!(
            get(&world.items().await, &key).await.as_deref(),
            Some("new")
        );
    }
}

/// P24 tags-known-by-lane: the answer that a tag is held arrives after the push that it is not.
#[tokio::test(flavor = "multi_thread")]
async fn held_back_answer_about_a_tag_does_not_outlive_its_push() {
    let world = World::new().await;
    let (store, _, cache) = gated(&world).await;
    let elsewhere = world.larder().await;
    load_tagged(&elsewhere.cache("item").unwrap(), "k", "old", "t").await;
    let gate = store.gate(Call::Tags, When::After);
    let reading = tokio::spawn({
        let cache = cache.clone();
        async move { get(&cache, "k").await }
    });
    gate.reached().await;
    elsewhere.invalidate_tag("t").await.unwrap();
    store.hear("item:k").await;
    gate.open();
    reading.await.unwrap(); // it came before, so either is right
    assert_eq!(get(&cache, "k").await, None);
}

/// P22 epoch-before-load, P18 failed-write-invalidates: a write whose tag is removed meanwhile
/// leaves no value.
#[tokio::test(flavor = "multi_thread")]
async fn tag_removed_during_a_write_leaves_the_key_without_a_value() {
    let world = World::new().await;
    let [(one, items), (other, elsewhere)] = pair(&world).await;
    for remover in [&one, &other] {
        let gate = Gate::new();
        let writing = tokio::spawn({
            let (items, gate) = (items.clone(), gate.clone());
            async move {
                let writer = || async move {
                    gate.pass().await;
                    Ok::<_, io::Error>(Loaded::new("old".to_owned()).tag("t"))
                };
                items.write_through("k", writer).await
            }
        });
        gate.reached().await;
        remover.invalidate_tag("t").await.unwrap();
        gate.open();
        assert_eq!(
            **writing.await.unwrap().as_ref().unwrap(),
            "old",
            "the database was written"
        );
        assert_eq!(
            (get(&items, "k").await, get(&elsewhere, "k").await),
            (None, None)
        );
    }
    items
        .write_through("k", || async {
            Ok::<_, io::Error>(Loaded::new("v".to_owned()).tag("t"))
        })
        .await
        .unwrap();
    assert_eq!(get(&elsewhere, "k").await.as_deref(), Some("v"));
    other.invalidate_tag("t").await.unwrap();
    gets(&items, "k", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_tags_are_errors_and_their_values_are_served_but_not_kept() {
    let world = World::new().await;
    let larder = world.larder().await;
    let cache: Items = larder.cache("item").unwrap();
    let long = "x".repeat(1025);
    for tag in ["", &long] {
        let error = larder.invalidate_tag(tag).await.unwrap_err();
        assert!(
            matches!(error, Error::Tag { .. }) && error.to_string().contains("1 to 1024"),
            "{error}"
        );
        let insert = cache
            .insert("k", Loaded::new("v".to_owned()).tag(tag))
            .await;
        assert!(matches!(insert, Err(Error::Tag { .. })), "{insert:?}");
        assert_eq!(load_tagged(&cache, "k", "v", tag).await, "v");
        assert_eq!(get(&cache, "k").await, None);
    }
    assert_eq!(cache.stats().unstorable, 2);
    let many = (0..300).fold(Loaded::new("v".to_owned()), |loaded, n| {
        loaded.tag(n.to_string())
    });
    assert!(
        cache
            .insert("k", many)
            .await
            .unwrap_err()
            .to_string()
            .contains("300 tags")
    );
    let doubled = Loaded::new("v".to_owned())
        .tag("twice")
        .tag("twice")
        .tag("\u{1F980} {}:%");
    cache.insert("k", doubled).await.unwrap();
    assert_eq!(get(&world.items().await, "k").await.as_deref(), Some("v"));
    larder.invalidate_tag("\u{1F980} {}:%").await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}
