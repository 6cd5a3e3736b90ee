use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larder::{
    Clock, Error, Larder, LarderBuilder, MemoryServer, Outbox, OutboxEntry, OutboxError,
    RedisConfig,
};

use crate::support::{Items, builder};

struct Empty;

#[async_trait]
impl Outbox for Empty {
    async fn unconfirmed(&self, _: i64, _: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        Ok(Vec::new())
    }

    async fn confirm(&self, _: &[i64]) -> Result<(), OutboxError> {
        Ok(())
    }
}

#[tokio::test]
async fn options_that_contradict_each_other_are_an_error_that_names_them() {
    let store = || Arc::new(MemoryServer::new(Clock::system()).connect());
    let cases: [(LarderBuilder, &str); 12] = [
        (
            builder().remote_store(store()).remote_store(store()),
            "remote_store",
        ),
        (
            builder().redis("redis://localhost").remote_store(store()),
            "redis, redis_config and remote_store",
        ),
        (builder().start_without_redis(true), "start_without_redis"),
        (
            builder().start_without_redis(true).remote_store(store()),
            "start_without_redis",
        ),
        (
            builder().l1_entries(10).l1_bytes(1 << 20),
            "l1_entries and l1_bytes",
        ),
        (
            builder().outbox_interval(Duration::from_secs(1)),
            "outbox_interval needs an outbox",
        ),
        (
            builder()
                .outbox(Arc::new(Empty))
                .outbox_interval(Duration::ZERO),
            "outbox_interval is zero",
        ),
        (builder().namespace(""), "1 to 64"),
        (builder().namespace("a/b"), "'/' is not allowed"),
        (builder().namespace("n".repeat(65)), "65 bytes"),
        (
            builder()
                .namespace("one")
                .redis_config(RedisConfig::new("redis://localhost").namespace("two")),
            "namespace is \"one\", that of redis_config is \"two\"",
        ),
        (builder().name(""), "a name has 1 to 64 bytes"),
    ];
    for (builder, says) in cases {
        let refused = builder.build().await.unwrap_err();
        assert!(matches!(refused, Error::Options { .. }), "{refused:?}");
        assert!(refused.to_string().contains(says), "{refused}, not {says}");
    }
}

#[tokio::test]
async fn namespace_stands_in_front_of_every_key_and_keeps_larders_apart() {
    let server = MemoryServer::new(Clock::system());
    let larder = async |namespace: Option<&str>| -> Larder {
        let mut builder = builder().remote_store(Arc::new(server.connect()));
        if let Some(namespace) = namespace {
            builder = builder.namespace(namespace);
        }
        builder.build().await.unwrap()
    };
    let larders = [
        larder(None).await,
        larder(Some("one")).await,
        larder(Some("two")).await,
    ];
    let caches = larders
        .each_ref()
        .map(|larder| larder.cache("item").unwrap());
    let [plain, one, two]: [Items; 3] = caches;
    assert_eq!(
        (plain.key(7).to_string(), one.key(7).to_string()),
        ("item:7".into(), "one/item:7".into())
    );
    for (cache, value) in [(&plain, "plain"), (&one, "one"), (&two, "two")] {
        cache.insert(7, value.to_owned()).await.unwrap();
    }
    one.clear().await.unwrap();
    assert_eq!(one.get(7).await.unwrap(), None);
    assert_eq!(plain.get(7).await.unwrap().unwrap().as_str(), "plain");
    assert_eq!(two.get(7).await.unwrap().unwrap().as_str(), "two");
    let failed = one
        .get_or_load(8, || async { Err::<String, _>("no") })
        .await
        .unwrap_err();
    assert_eq!(failed.key(), Some("one/item:8"));
}
