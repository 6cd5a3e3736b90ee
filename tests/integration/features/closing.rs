//! The end of a larder: what an outage has kept is sent before, or counted.

use std::time::Duration;

use larder::{Error, RedisConfig};
use larder_testkit::Proxy;

use crate::support::{
    calls::{Items, get, gets, load},
    policy::builder,
    redis::config,
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

#[tokio::test(flavor = "multi_thread")]
async fn second_close_sends_what_the_first_one_left_unsent() {
    let world = World::new().await;
    let proxy = Proxy::start(&world.server.addr()).await.unwrap();
    let through = builder().redis_config(config(proxy.url()));
    let larder = through.build().await.unwrap();
    let (cache, elsewhere): (Items, Items) = (larder.cache("item").unwrap(), world.items().await);
    load(&elsewhere, "k", "old").await;
    proxy.refuse(true);
    proxy.cut();
    cache.invalidate("k").await.unwrap();
    let cut_off = larder.close(Duration::from_millis(20)).await.unwrap_err();
    assert!(
        matches!(cut_off, Error::Unsent { unsent: 1, .. }),
        "{cut_off:?}"
    );
    assert_eq!(get(&elsewhere, "k").await.as_deref(), Some("old"));
    proxy.refuse(false);
    larder.close(BOUND).await.unwrap();
    gets(&elsewhere, "k", None).await;
}
