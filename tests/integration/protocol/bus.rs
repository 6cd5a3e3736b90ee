//! Servers that refuse tracking: processes tell each other what they change, and a lost
//! subscription is a lost lane.

use std::sync::Arc;

use larder::{Clock, Coherence, Larder, Levels, RedisConfig};
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::{Gate, Reply, no_tracking};

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load},
    gated::{Call, When, gated_cache},
    log::Log,
    policy::{MINUTE, builder, builder_of, named, policy},
    redis::config,
    wait::{holds, woken},
    world::{World, cache_of, cache_on},
};

/// Options of a process of a fleet that is told by the channel.
fn told(url: impl Into<String>) -> RedisConfig {
    config(url).coherence(Coherence::Channel)
}

/// A larder whose store the test can ask too.
async fn process(world: &World) -> (Arc<RedisStore>, Larder, Items) {
    let store = Arc::new(RedisStore::connect(told(world.server.url())).await.unwrap());
    let policies = [policy(), named("instant").instant_clear(true)];
    let larder = builder_of(&policies)
        .remote_store(store.clone())
        .build()
        .await
        .unwrap();
    let cache = larder.cache("item").unwrap();
    (store, larder, cache)
}

/// P26 scripts-publish: everything that removes an entry is told.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_removal_reaches_the_other_process() {
    let world = World::without_tracking().await;
    let (store, one, here) = process(&world).await;
    let (_, other, there) = process(&world).await;
    assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Subscribed);
    let instant: [Items; 2] = [
        one.cache("instant").unwrap(),
        other.cache("instant").unwrap(),
    ];
    for round in 0..5 {
        load_tagged(&here, "k", "old", "t").await;
        load_tagged(&instant[0], "k", "old", "t").await;
        assert_eq!(
            get(&there, "k").await.as_deref(),
            Some("old"),
            "round {round}"
        );
        assert_eq!(get(&instant[1], "k").await.as_deref(), Some("old"));
        match round {
            0 => here.invalidate("k").await.unwrap(),
            1 => here.insert("k", "new".to_owned()).await.unwrap(),
            2 => one.invalidate_tag("t").await.unwrap(),
            3 => here.clear().await.unwrap(),
            _ => here
                .write_around("k", || async { Ok::<_, std::io::Error>(()) })
                .await
                .unwrap(),
        }
        gets(&there, "k", (round == 1).then_some("new")).await;
        instant[0].clear().await.unwrap();
        gets(&instant[1], "k", None).await;
        here.invalidate("k").await.unwrap();
        gets(&there, "k", None).await;
    }
}

/// P26 scripts-publish: a lease that is given up wakes who waits for it, long before its time ends.
#[tokio::test(flavor = "multi_thread")]
async fn waiter_in_another_process_is_woken_by_a_message() {
    let world = World::without_tracking().await;
    let patient = policy().lease(MINUTE).max_wait(MINUTE);
    let here = world.cache(&patient).await;
    let (store, there) = gated_cache(&world, &patient).await;
    let gate = Gate::new();
    let loading = slow_load(&here, "k", "loaded", &gate);
    gate.reached().await;
    let busy = store.gate(Call::Claim, When::After);
    let waiting = tokio::spawn(async move { load(&there, "k", "other").await });
    busy.reached().await;
    busy.open();
    gate.open();
    loading.await.unwrap().unwrap();
    assert_eq!(woken(waiting).await.unwrap(), "loaded");
}

/// P24 tags-known-by-lane, P26 scripts-publish: what a channel brings is in no order with a lane's
/// replies, so L2 is asked for the tags of what it returns.
#[tokio::test(flavor = "multi_thread")]
async fn tag_whose_removal_has_not_been_told_yet_is_not_believed() {
    let world = World::without_tracking().await;
    let proxy = world.proxy().await;
    let store = Arc::new(
        RedisStore::connect(told(proxy.url()).lanes(1))
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
    holds("it is subscribed", || {
        store.lane_state(LaneIndex(0)) == LaneState::Subscribed
    })
    .await;
    proxy.deafen(true);
    world.larder().await.invalidate_tag("t").await.unwrap();
    assert_eq!(get(&cache, "k").await, None);
}

/// P26 scripts-publish: what is told while nobody hears is not missed.
#[tokio::test(flavor = "multi_thread")]
async fn lost_subscription_is_a_lost_lane() {
    let world = World::without_tracking().await;
    let (store, larder, here) = process(&world).await;
    let (_, _, there) = process(&world).await;
    for round in 0..5 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        here.insert("k", old.clone()).await.unwrap();
        assert_eq!(get(&here, "k").await, Some(old));
        let lost = larder.stats().lanes_lost;
        world
            .server
            .command(&["CLIENT", "KILL", "TYPE", "pubsub"])
            .await
            .unwrap();
        holds("the loss is noticed", || larder.stats().lanes_lost > lost).await;
        there.insert("k", new.clone()).await.unwrap();
        gets(&here, "k", Some(&new)).await;
        holds("it hears again", || {
            store.lane_state(LaneIndex(0)) == LaneState::Subscribed
        })
        .await;
        there.insert("k", "newer".to_owned()).await.unwrap();
        gets(&here, "k", Some("newer")).await;
    }
}

/// P12 tracking-never-assumed, P26 scripts-publish: while it does not hear, entries are
/// short-lived.
#[tokio::test(flavor = "multi_thread")]
async fn entries_read_without_a_subscription_are_short_lived() {
    let world = World::without_tracking().await;
    let (clock, hand) = Clock::manual();
    let store = Arc::new(RedisStore::connect(told(world.server.url())).await.unwrap());
    let cache: Items = cache_of(builder().remote_store(store.clone()).clock(clock)).await;
    world
        .server
        .command(&["ACL", "SETUSER", "default", "-subscribe"])
        .await
        .unwrap();
    world
        .server
        .command(&["CLIENT", "KILL", "TYPE", "pubsub"])
        .await
        .unwrap();
    holds("the loss is noticed", || {
        store.lane_state(LaneIndex(0)) == LaneState::Untracked
    })
    .await;
    load(&cache, "k", "old").await;
    world
        .server
        .command(&["SET", "item:k", "\"new\""])
        .await
        .unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    hand.advance(cache.policy().degraded_l1_ttl());
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

/// P27 channel-proves-alive: a subscription that is open but brings nothing is found out.
#[tokio::test(flavor = "multi_thread")]
async fn deaf_subscription_is_noticed() {
    let world = World::without_tracking().await;
    let (store, larder, cache) = process(&world).await;
    load(&cache, "k", "v").await;
    // The subscriber's user may not read the channel any more, and stays connected: its own
    // messages do not come back.
    world
        .server
        .command(&["ACL", "SETUSER", "default", "resetchannels", "&none"])
        .await
        .unwrap();
    holds("it is noticed", || {
        store.lane_state(LaneIndex(0)) == LaneState::Untracked
    })
    .await;
    holds("it is counted", || larder.stats().lanes_lost >= 1).await;
    world
        .server
        .command(&["ACL", "SETUSER", "default", "allchannels"])
        .await
        .unwrap();
    holds("it hears again", || {
        store.lane_state(LaneIndex(0)) == LaneState::Subscribed
    })
    .await;
}

/// A process ignores its own messages, and hearing one sends none.
#[tokio::test(flavor = "multi_thread")]
async fn message_is_ignored_by_its_sender_and_answered_by_nobody() {
    let world = World::without_tracking().await;
    let (_, one, here) = process(&world).await;
    let (_, other, there) = process(&world).await;
    here.insert("k", "v".to_owned()).await.unwrap();
    gets(&there, "k", Some("v")).await;
    let (own, heard) = (one.stats().pushes, other.stats().pushes);
    here.invalidate("k").await.unwrap();
    holds("it is heard", || other.stats().pushes >= heard + 2).await;
    assert_eq!(one.stats().pushes, own, "its own messages are not news");
    assert_eq!(
        there.stats().loads + there.stats().invalidations,
        0,
        "and hearing them does nothing else"
    );
    assert_eq!(
        world.server.command(&["EXISTS", "item:k"]).await.unwrap(),
        Reply::Integer(0)
    );
}

/// P12 tracking-never-assumed, P26 scripts-publish: a process whose user may not track is not told
/// by those that do, so it serves what one of them has replaced for `degraded_l1_ttl` at most.
#[tokio::test]
async fn process_of_lesser_rights_serves_what_a_tracking_one_replaced_for_a_short_time() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let user = ["ACL", "SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all"];
    let user = [&user[..], no_tracking()].concat();
    world.server.command(&user).await.unwrap();
    let url = format!("redis://plain:pw@{}", world.server.addr());
    let (clock, hand) = Clock::manual();
    let policy = policy().stale_for(MINUTE);
    let plain = builder_of(std::slice::from_ref(&policy))
        .redis(url)
        .clock(clock);
    let plain: Items = cache_of(plain).await;
    let tracking: Items = world.cache(&policy).await;
    for (nth, round) in ["write", "invalidate", "clear"].iter().enumerate() {
        let (old, new) = (format!("old{nth}"), format!("new{nth}"));
        tracking.insert("k", old.clone()).await.unwrap();
        hand.advance(plain.policy().degraded_l1_ttl());
        assert_eq!(get(&plain, "k").await.as_ref(), Some(&old), "{round}");
        match *round {
            "invalidate" => tracking.invalidate("k").await.unwrap(),
            "clear" => tracking.clear().await.unwrap(),
            _ => {}
        }
        tracking.insert("k", new.clone()).await.unwrap();
        assert_eq!(
            get(&plain, "k").await,
            Some(old),
            "{round}: nothing tells of it"
        );
        hand.advance(plain.policy().degraded_l1_ttl());
        assert_eq!(get(&plain, "k").await, Some(new), "{round}");
    }
    plain.insert("k", "last".to_owned()).await.unwrap();
    gets(&tracking, "k", Some("last")).await;
    let warnings = log.count("refuses CLIENT TRACKING");
    assert!((1..=2).contains(&warnings), "{warnings} for two lanes");
}

/// A process that starts while the server is away subscribes when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn process_that_starts_before_its_server_subscribes_later() {
    let mut world = World::without_tracking().await;
    world.server.kill();
    let store = Arc::new(RedisStore::connect_lazy(told(world.server.url())).unwrap());
    assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Down);
    world.server.restart().await.unwrap();
    holds("it hears", || {
        store.lane_state(LaneIndex(0)) == LaneState::Subscribed
    })
    .await;
    let cache: Items = cache_of(builder().remote_store(store.clone())).await;
    let (_, _, there) = process(&world).await;
    load(&cache, "k", "old").await;
    there.insert("k", "new".to_owned()).await.unwrap();
    gets(&cache, "k", Some("new")).await;
}
