//! The policies of the TTL table keep their word.

use std::{convert::Infallible, time::Duration};

use larder::{Clock, Error, Levels, Loaded};

use larder_testkit::Gate;

use crate::support::{
    calls::{Items, get, load, slow_load, value},
    gated::{Call, Gated, When},
    policy::{MINUTE, builder, builder_of, named, policy},
    world::{World, cache_of},
};

#[tokio::test(flavor = "multi_thread")]
async fn l1_serves_for_its_own_ttl_and_never_past_the_end_of_l2() {
    let world = World::new().await;
    let (clock, hand) = Clock::manual();
    let cache: Items = cache_of(builder().redis(world.server.url()).clock(clock)).await;
    load(&cache, "long", "value").await;
    world
        .server
        .command(&["SET", "item:short", "\"value\"", "EX", "1"])
        .await
        .unwrap();
    assert_eq!(get(&cache, "short").await.as_deref(), Some("value"));
    world
        .server
        .command(&["CLIENT", "PAUSE", "0"])
        .await
        .unwrap();
    hand.advance(Duration::from_millis(900));
    let hits = cache.stats().l1_hits;
    assert_eq!(get(&cache, "short").await.as_deref(), Some("value"));
    hand.advance(Duration::from_millis(100));
    // P20 l1-ends-with-l2: the second is over by this process's clock, whatever the server has got
    // round to.
    drop(get(&cache, "short").await);
    assert_eq!(
        cache.stats().l1_hits,
        hits + 1,
        "the copy in L1 ends with the entry in L2"
    );
    hand.advance(Duration::from_secs(58));
    assert_eq!(get(&cache, "long").await.as_deref(), Some("value"));
    assert_eq!(cache.stats().l1_hits, hits + 2);
    hand.advance(Duration::from_secs(2));
    assert_eq!(get(&cache, "long").await.as_deref(), Some("value"));
    assert_eq!(
        cache.stats().l1_hits,
        hits + 2,
        "past its l1_ttl it comes from L2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_of_l2_keeps_nothing_in_the_process() {
    let world = World::new().await;
    let cache: Items = world.cache(&policy().levels(Levels::L2)).await;
    load(&cache, "k", "value").await;
    for _ in 0..3 {
        assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
    }
    assert_eq!((cache.stats().l1_hits, cache.stats().l2_hits), (0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_every_policy_lives_in_l1_for_its_ttl() {
    let (clock, hand) = Clock::manual();
    for policy in [policy(), policy().levels(Levels::L2)] {
        let cache: Items = cache_of(builder_of(&[policy]).clock(clock.clone())).await;
        cache.insert("k", "value".to_owned()).await.unwrap();
        hand.advance(Duration::from_secs(599));
        assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
        hand.advance(Duration::from_secs(1));
        assert_eq!(get(&cache, "k").await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_is_remembered_as_the_policy_says() {
    let world = World::new().await;
    let remembering = policy().negative_ttl(5 * MINUTE);
    let larder = world
        .larder_of(&[remembering.clone(), named("other")])
        .await;
    let absent = || async { Ok::<Option<String>, Infallible>(None) };
    let remembers: Items = larder.cache("item").unwrap();
    for _ in 0..3 {
        assert!(remembers.find_or_load("k", absent).await.unwrap().is_none());
    }
    assert_eq!(remembers.stats().loads, 1);
    assert_eq!(world.l2("item:k").await.as_deref(), Some("null"));
    let elsewhere = world.cache(&remembering).await;
    assert!(elsewhere.find_or_load("k", absent).await.unwrap().is_none());
    assert_eq!(
        (elsewhere.stats().loads, get(&elsewhere, "k").await),
        (0, None)
    );
    let strict = remembers.get_or_load("k", || value("x")).await;
    assert!(matches!(strict, Err(Error::Absent { .. })), "{strict:?}");
    remembers.insert("k", "now there".to_owned()).await.unwrap();
    let found = remembers.find_or_load("k", absent).await.unwrap();
    assert_eq!(found.as_deref().map(String::as_str), Some("now there"));

    let forgets: Items = larder.cache("other").unwrap();
    for loads in 1..3 {
        assert!(forgets.find_or_load("k", absent).await.unwrap().is_none());
        assert_eq!(forgets.stats().loads, loads);
    }
    assert_eq!(world.l2("other:k").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn loader_decides_on_the_lifetime_of_what_it_loaded() {
    let world = World::new().await;
    for (cache, has_l2) in [
        (world.items().await, true),
        (cache_of(builder()).await, false),
    ] {
        for (key, ttl) in [("short", 20), ("long", 2000)] {
            let loaded = Loaded::new("value".to_owned()).ttl(Duration::from_secs(ttl));
            cache
                .get_or_load(key, || async { Ok::<_, Infallible>(loaded) })
                .await
                .unwrap();
            if has_l2 {
                let rest = world
                    .server
                    .command(&["TTL", &format!("item:{key}")])
                    .await
                    .unwrap();
                let ttl = i64::try_from(ttl).unwrap();
                assert!(
                    matches!(rest, larder_testkit::Reply::Integer(rest) if (ttl - 2..=ttl).contains(&rest)),
                    "{rest:?}"
                );
            }
        }
        for (n, ttl) in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX]
            .into_iter()
            .enumerate()
        {
            let key = format!("k{n}");
            let loaded = Loaded::new("value".to_owned()).ttl(ttl);
            let served = cache
                .get_or_load(key.as_str(), || async { Ok::<_, Infallible>(loaded) })
                .await
                .unwrap();
            assert_eq!(*served, "value");
            assert_eq!(
                get(&cache, &key).await.is_some(),
                ttl == Duration::MAX,
                "{ttl:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expiries_are_spread_by_jitter() {
    let world = World::new().await;
    let cache: Items = larder::Larder::builder()
        .redis(world.server.url())
        .build()
        .await
        .unwrap()
        .cache("user_profile")
        .unwrap();
    let mut lives = std::collections::BTreeSet::new();
    for key in 0..50 {
        cache
            .insert(key.to_string(), "value".to_owned())
            .await
            .unwrap();
        match world
            .server
            .command(&["PTTL", &format!("user:{key}")])
            .await
            .unwrap()
        {
            larder_testkit::Reply::Integer(rest) => lives.insert(rest / 1000),
            other => panic!("{other:?}"),
        };
    }
    assert!(
        lives.iter().all(|life| (3239..=3600).contains(life)),
        "{lives:?}"
    );
    assert!(lives.len() > 20, "{lives:?}");
}

/// P20 l1-ends-with-l2: the rest of a life in L2 counts from before L2 was asked.
#[tokio::test(flavor = "multi_thread")]
async fn reply_that_is_handled_late_does_not_lengthen_a_life_in_l1() {
    let world = World::new().await;
    let (clock, hand) = Clock::manual();
    let store = Gated::new(world.store().await);
    let cache: Items = cache_of(builder().remote_store(store.clone()).clock(clock)).await;
    world
        .server
        .command(&["SET", "item:k", "\"value\"", "EX", "10"])
        .await
        .unwrap();
    let reply = store.gate(Call::Get, When::After);
    let reading = slow_load(&cache, "k", "must not be loaded", &Gate::new());
    reply.reached().await;
    hand.advance(Duration::from_secs(9));
    reply.open();
    assert_eq!(**reading.await.unwrap().as_ref().unwrap(), "value");
    hand.advance(Duration::from_secs(1));
    let hits = cache.stats().l1_hits;
    get(&cache, "k").await;
    assert_eq!(cache.stats().l1_hits, hits);
}
