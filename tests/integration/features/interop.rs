//! Other programs read and write the same Redis.

use larder::{Cache, TtlTable};
use larder_testkit::Reply;
use serde::{Deserialize, Serialize};

use crate::support::{
    calls::{get, gets, load, slow_load, value},
    policy::builder,
    world::World,
};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn json_of_another_program_is_served_and_ours_is_plain_json() {
    let world = World::new().await;
    let users: Cache<u64, User> = world.larder().await.cache("item").unwrap();
    world
        .server
        .command(&["SET", "item:1", "{ \"name\": \"Ada\", \"id\": 1 }"])
        .await
        .unwrap();
    assert_eq!(
        *users.get(1).await.unwrap().unwrap(),
        User {
            id: 1,
            name: "Ada".into()
        }
    );
    users
        .insert(
            2,
            User {
                id: 2,
                name: "Grace".into(),
            },
        )
        .await
        .unwrap();
    assert_eq!(
        world.l2("item:2").await.as_deref(),
        Some(r#"{"id":2,"name":"Grace"}"#)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_does_not_decode_is_loaded_anew_and_healed() {
    let world = World::new().await;
    let cache = world.items().await;
    for (n, bytes) in ["{not json", "42", "", "null"].into_iter().enumerate() {
        let key = format!("k{n}");
        let name = format!("item:{key}");
        world.server.command(&["SET", &name, bytes]).await.unwrap();
        assert_eq!(get(&cache, &key).await, None, "a plain read is a miss");
        assert_eq!(load(&cache, &key, "healed").await, "healed");
        assert_eq!(world.l2(&name).await.as_deref(), Some("\"healed\""));
        assert_eq!(load(&cache, &key, "must not be loaded").await, "healed");
    }
    assert!(cache.stats().undecodable >= 3, "{:?}", cache.stats());
    assert_eq!(cache.stats().loads, 4);
}

/// P3 clean-lease-commits: what a foreign program wrote during the load stays.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_value_written_during_a_load_is_kept() {
    let world = World::new().await;
    let cache = world.items().await;
    for before in [None, Some("{undecodable")] {
        if let Some(bytes) = before {
            world
                .server
                .command(&["SET", "item:k", bytes])
                .await
                .unwrap();
        }
        let gate = larder_testkit::Gate::new();
        let loading = slow_load(&cache, "k", "loaded", &gate);
        gate.reached().await;
        world
            .server
            .command(&["SET", "item:k", "\"foreign\""])
            .await
            .unwrap();
        gate.open();
        loading.await.unwrap().unwrap();
        assert_eq!(world.l2("item:k").await.as_deref(), Some("\"foreign\""));
        gets(&cache, "k", Some("foreign")).await;
        cache.invalidate("k").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn key_of_another_redis_type_is_left_alone_and_served_by_the_loader() {
    let world = World::new().await;
    let cache = world.items().await;
    world
        .server
        .command(&["RPUSH", "item:k", "precious"])
        .await
        .unwrap();
    assert_eq!(load(&cache, "k", "value").await, "value");
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("value"),
        "L1 has it for a short while"
    );
    cache.write_through("k", || value("written")).await.unwrap();
    cache.write_around("k", || value("written")).await.unwrap();
    let error = cache.invalidate("k").await.unwrap_err();
    let clear_error = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        clear_error.contains("item:k holds a value of another type"),
        "{clear_error}"
    );
    cache.clear().await.unwrap();
    let list = world
        .server
        .command(&["LRANGE", "item:k", "0", "-1"])
        .await
        .unwrap();
    assert_eq!(list, Reply::Array(vec![Reply::Bytes(b"precious".to_vec())]));
    assert!(cache.stats().l2_errors > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_schema_never_meets_the_old_bytes() {
    let world = World::new().await;
    load(&world.items().await, "k", "old shape").await;
    let table = TtlTable::from_toml("[item]\nttl = '1h'\nschema = 2").unwrap();
    let larder = builder()
        .ttl_table(table)
        .redis(world.server.url())
        .build()
        .await
        .unwrap();
    let cache: Cache<String, (u32, u32)> = larder.cache("item").unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    cache.insert("k", (1, 2)).await.unwrap();
    assert_eq!(world.l2("item@2:k").await.as_deref(), Some("[1,2]"));
}

/// P3 clean-lease-commits: bytes that were to be replaced are gone, so somebody has changed the
/// database meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn undecodable_value_that_is_deleted_during_its_load_is_not_replaced() {
    let world = World::new().await;
    let cache = world.items().await;
    world
        .server
        .command(&["SET", "item:k", "not JSON"])
        .await
        .unwrap();
    let gate = larder_testkit::Gate::new();
    let loading = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    world.server.command(&["DEL", "item:k"]).await.unwrap();
    gate.open();
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(world.l2("item:k").await, None);
}
