//! Messages of the log, and how often each is said.

use larder::RedisConfig;
use larder_testkit::RedisServer;

use crate::support::{
    calls::{Items, load},
    log::Log,
    policy::builder,
    world::World,
};

#[tokio::test]
async fn value_that_cannot_be_read_is_logged_once_for_its_row() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let cache = world.items().await;
    for key in ["a", "b", "c"] {
        world
            .server
            .command(&["SET", &format!("item:{key}"), "{\"secret\":"])
            .await
            .unwrap();
        assert_eq!(load(&cache, key, "value").await, "value");
    }
    assert_eq!(cache.stats().undecodable, 3);
    assert_eq!(
        log.count("cannot be read and is loaded anew"),
        1,
        "{}",
        log.text()
    );
    assert!(
        log.text().contains("item:a") && !log.text().contains("secret"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn key_of_another_type_is_logged_once_for_its_row() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let cache = world.items().await;
    for key in ["a", "b"] {
        world
            .server
            .command(&["LPUSH", &format!("item:{key}"), "x"])
            .await
            .unwrap();
        assert_eq!(load(&cache, key, "value").await, "value");
    }
    assert_eq!(log.count("L2 refuses"), 1, "{}", log.text());
    assert!(
        log.text().contains("item:a") && log.text().contains("another type"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn lane_that_cannot_track_says_so_once() {
    let log = Log::default();
    let _listening = log.listen();
    let no_tracking = [
        "--user",
        "default",
        "on",
        "nopass",
        "~*",
        "&*",
        "+@all",
        "-client|tracking",
    ];
    let server = RedisServer::builder()
        .args(&no_tracking)
        .start()
        .await
        .unwrap();
    let larder = builder()
        .redis_config(RedisConfig::new(server.url()).lanes(1))
        .build()
        .await
        .unwrap();
    let cache: Items = larder.cache("item").unwrap();
    for n in 0..3 {
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
            .unwrap();
        load(&cache, &format!("k{n}"), "value").await;
    }
    assert_eq!(log.count("refuses CLIENT TRACKING"), 1, "{}", log.text());
}
