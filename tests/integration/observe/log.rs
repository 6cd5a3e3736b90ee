//! Messages of the log, and how often each is said.

use std::{collections::BTreeMap, convert::Infallible};

use larder::{Cache, Error, RedisConfig};

use crate::support::{
    calls::{Items, load},
    log::Log,
    policy::builder,
    world::{World, cache_of},
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

/// A type that JSON writes and cannot read: the keys of a flattened map are texts to it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Flat {
    #[serde(flatten)]
    counts: BTreeMap<u32, u32>,
}

#[tokio::test]
async fn values_that_do_not_come_back_are_served_and_kept_out_of_l2_and_that_is_said_once() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let (flat, others): (Cache<String, Flat>, Cache<String, Flat>) = (
        world.larder().await.cache("item").unwrap(),
        world.larder().await.cache("item").unwrap(),
    );
    let value = Flat {
        counts: BTreeMap::from([(1, 1)]),
    };
    for key in ["a", "b"] {
        for cache in [&flat, &flat, &others] {
            let (loaded, loads) = (value.clone(), cache.stats().loads);
            let loader = || async { Ok::<_, Infallible>(loaded) };
            assert_eq!(*cache.get_or_load(key, loader).await.unwrap(), value);
            assert_eq!(cache.stats().loads, loads + 1, "{key} is kept");
        }
        assert_eq!(world.l2(&format!("item:{key}")).await, None);
    }
    assert!(matches!(
        flat.insert("a", value).await,
        Err(Error::Encode { .. })
    ));
    assert_eq!((flat.stats().unstorable, others.stats().unstorable), (4, 2));
    assert_eq!(flat.stats().undecodable + others.stats().undecodable, 0);
    assert_eq!(
        log.count("a value is served but not kept"),
        2,
        "once in each process: {}",
        log.text()
    );
    assert_eq!(log.count("Flat` cannot be read back"), 2, "{}", log.text());
}

/// JSON writes an infinity as `null`, which another process would read as `None`.
#[tokio::test]
async fn infinity_in_an_option_is_served_and_never_becomes_none_elsewhere() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    let (one, other): (Cache<String, [Option<f64>; 2]>, Cache<_, _>) = (
        world.larder().await.cache("item").unwrap(),
        world.larder().await.cache("item").unwrap(),
    );
    for n in 0..20 {
        // More than the values that are read back.
        one.insert(n.to_string(), [Some(1.0), None]).await.unwrap();
    }
    let loader = |value| move || async move { Ok::<_, Infallible>(value) };
    let infinite = [Some(f64::INFINITY), None];
    for cache in [&one, &other] {
        let served = cache.get_or_load("k", loader(infinite)).await.unwrap();
        assert_eq!(*served, infinite);
        assert_eq!(cache.stats().unstorable, 1);
    }
    assert_eq!(world.l2("item:k").await, None);
    assert_eq!(log.count("JSON has no infinity"), 2, "{}", log.text());
}

#[tokio::test]
async fn name_of_a_larder_is_a_field_of_what_it_logs() {
    let log = Log::default();
    let _listening = log.listen();
    let world = World::new().await;
    for name in [Some("sessions"), None] {
        let mut builder = builder().redis_config(world.config());
        if let Some(name) = name {
            builder = builder.name(name);
        }
        let cache: Items = builder.build().await.unwrap().cache("item").unwrap();
        world
            .server
            .command(&["SET", "item:k", "not JSON"])
            .await
            .unwrap();
        load(&cache, "k", "value").await;
    }
    let text = log.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("cannot be read and is loaded anew"))
        .collect();
    let [named, nameless] = lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        named.contains(r#"larder="sessions" policy="item""#),
        "{named}"
    );
    assert!(!nameless.contains("larder="), "{nameless}");
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
    let server = World::without_tracking().await.server;
    let cache: Items =
        cache_of(builder().redis_config(RedisConfig::new(server.url()).lanes(1))).await;
    for n in 0..3 {
        server
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
            .unwrap();
        load(&cache, &format!("k{n}"), "value").await;
    }
    assert_eq!(log.count("refuses CLIENT TRACKING"), 1, "{}", log.text());
}
