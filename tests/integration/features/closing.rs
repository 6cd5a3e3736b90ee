//! The end of a larder: what an outage has kept is sent before, or counted.

use std::time::Duration;

use larder::{Error, RedisConfig};

use crate::support::{
    calls::{Items, load},
    policy::builder,
    wait::BOUND,
    world::World,
};

#[tokio::test(flavor = "multi_thread")]
async fn close_during_an_outage_says_how_much_is_unsent() {
    let mut world = World::new().await;
    let larder = world.larder().await;
    let cache: Items = larder.cache("item").unwrap();
    load(&cache, "k", "old").await;
    world.server.kill();
    cache.invalidate("k").await.unwrap();
    let cut_off = larder.close(Duration::from_millis(20)).await.unwrap_err();
    assert!(
        matches!(
            cut_off,
            Error::Unsent {
                running: 0,
                unsent: 1,
                ..
            }
        ),
        "{cut_off:?}"
    );
    assert!(matches!(cache.get("k").await, Err(Error::Closed)));
    assert!(matches!(larder.clear().await, Err(Error::Closed)));

    // Nobody listens there, and nothing is unsent.
    let config = RedisConfig::new("redis://127.0.0.1:1");
    let lazy = builder().redis_config(config).start_without_redis(true);
    lazy.build().await.unwrap().close(BOUND).await.unwrap();
}
