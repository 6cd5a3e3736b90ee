//! Channels that are connected but deaf.

use std::{sync::Arc, time::Duration};

use larder::Larder;
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::Proxy;
use tokio::time::Instant;

use crate::support::{
    calls::{Items, get, gets, load, load_tagged},
    policy::builder,
    redis::config,
    wait::holds,
    world::World,
};

const PERIOD: Duration = Duration::from_millis(100);

struct Deaf {
    world: World,
    proxy: Proxy,
    store: Arc<RedisStore>,
    larder: Larder,
    cache: Items,
    hand: larder::ManualClock,
}

impl Deaf {
    async fn new() -> Self {
        let world = World::new().await;
        let proxy = world.proxy().await;
        let options = config(proxy.url()).probe_interval(PERIOD).lanes(1);
        let store = Arc::new(RedisStore::connect(options).await.unwrap());
        let (clock, hand) = larder::Clock::manual();
        let larder = builder()
            .remote_store(store.clone())
            .clock(clock)
            .build()
            .await
            .unwrap();
        let cache = larder.cache("item").unwrap();
        Self {
            world,
            proxy,
            store,
            larder,
            cache,
            hand,
        }
    }

    fn state(&self) -> LaneState {
        self.store.lane_state(LaneIndex(0))
    }
}

/// P27 channel-proves-alive: found within the probe's period, reported, its entries out of date,
/// and new ones short-lived until it hears.
#[tokio::test(flavor = "multi_thread")]
async fn deaf_channel_is_found_and_degraded_until_it_hears_again() {
    let deaf = Deaf::new().await;
    load(&deaf.cache, "k", "old").await;
    load_tagged(&deaf.cache, "tagged", "old", "t").await;
    deaf.proxy.deafen(true);
    let start = Instant::now();
    deaf.world
        .server
        .command(&["SET", "item:k", "\"new\""])
        .await
        .unwrap();
    deaf.world.larder().await.invalidate_tag("t").await.unwrap();
    gets(&deaf.cache, "k", Some("new")).await;
    let noticed = start.elapsed();
    gets(&deaf.cache, "tagged", None).await;
    assert!(deaf.larder.stats().probe_failures >= 1);
    println!("noticed after {noticed:?} with a period of {PERIOD:?}");
    assert!(noticed < PERIOD * 100, "{noticed:?}");
    holds("it is degraded", || deaf.state() == LaneState::Untracked).await;
    // What is read now lives for the degraded time.
    gets(&deaf.cache, "k", Some("new")).await;
    deaf.world
        .server
        .command(&["SET", "item:k", "\"newer\""])
        .await
        .unwrap();
    deaf.hand.advance(deaf.cache.policy().degraded_l1_ttl());
    gets(&deaf.cache, "k", Some("newer")).await;
    deaf.proxy.deafen(false);
    holds("it hears again", || deaf.state() == LaneState::Tracking).await;
    let failures = deaf.larder.stats().probe_failures;
    gets(&deaf.cache, "k", Some("newer")).await;
    deaf.world
        .server
        .command(&["SET", "item:k", "\"newest\""])
        .await
        .unwrap();
    gets(&deaf.cache, "k", Some("newest")).await;
    assert_eq!(deaf.larder.stats().probe_failures, failures);
}

/// P27 channel-proves-alive: whoever proves that it hears, stays as it is.
#[tokio::test(flavor = "multi_thread")]
async fn channel_that_hears_is_left_alone_and_its_lag_is_known() {
    let deaf = Deaf::new().await;
    load(&deaf.cache, "k", "v").await;
    holds("a probe came back", || {
        deaf.larder.stats().push_lag.is_some()
    })
    .await;
    let lag = deaf.larder.stats().push_lag.unwrap();
    assert!(lag < Duration::from_secs(5), "{lag:?}");
    let hits = deaf.cache.stats().l1_hits;
    assert_eq!(get(&deaf.cache, "k").await.as_deref(), Some("v"));
    assert_eq!(
        deaf.cache.stats().l1_hits,
        hits + 1,
        "a probe makes nothing out of date"
    );
    let stats = deaf.larder.stats();
    assert_eq!((stats.probe_failures, stats.lanes_lost), (0, 0));
}

/// P27 channel-proves-alive: a new connection is not believed either, as long as it was not heard.
#[tokio::test(flavor = "multi_thread")]
async fn deaf_channel_that_was_connected_anew_is_still_degraded() {
    let deaf = Deaf::new().await;
    deaf.proxy.deafen(true);
    holds("it is degraded", || deaf.larder.stats().probe_failures >= 1).await;
    for _ in 0..3 {
        let connections = deaf.proxy.connections();
        deaf.proxy.cut();
        holds("it is connected anew", || {
            deaf.proxy.connections() > connections && deaf.state() != LaneState::Down
        })
        .await;
        assert_eq!(deaf.state(), LaneState::Untracked);
    }
}
