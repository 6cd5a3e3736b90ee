//! Errors of servers and addresses that cannot be used.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

use larder_core::{StoreError, ValueStore};
use larder_redis::{RedisConfig, RedisStore};
use larder_testkit::{RedisServer, Reply};

#[tokio::test]
async fn server_with_too_many_clients_is_quoted() {
    let server = RedisServer::start().await.unwrap();
    server
        .command(&["CONFIG", "SET", "maxclients", "1"])
        .await
        .unwrap();
    // The client that set the limit may still be there, and leave no room for this one.
    let _only = loop {
        let mut client = server.client().await.unwrap();
        if client
            .command(&["PING"])
            .await
            .is_ok_and(|reply| !matches!(reply, Reply::Error(_)))
        {
            break client;
        }
    };
    for url in [server.url(), server.unix_url()] {
        for _ in 0..20 {
            let error = RedisStore::connect(RedisConfig::new(&url))
                .await
                .unwrap_err();
            assert!(matches!(error, StoreError::Refused { .. }), "{error}");
            assert!(
                error.to_string().contains("max number of clients reached"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn address_of_a_valkey_is_accepted() {
    let server = RedisServer::start().await.unwrap();
    let url = server.url().replace("redis://", "valkey://");
    let store = RedisStore::connect(RedisConfig::new(url)).await.unwrap();
    assert_eq!(store.get("user:42").await.unwrap(), None);
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn address_of_a_valkey_over_tls_is_accepted() {
    if !larder_testkit::has_tls() {
        return println!("left out: the server is built without TLS");
    }
    let server = RedisServer::builder().tls().start().await.unwrap();
    let url = server.tls_url().unwrap().replace("rediss://", "valkeys://");
    let config = RedisConfig::new(url).root_certificate(server.certificate().unwrap());
    let store = RedisStore::connect(config).await.unwrap();
    assert_eq!(store.get("user:42").await.unwrap(), None);
}

#[cfg(not(feature = "tls"))]
#[tokio::test]
async fn tls_address_without_the_feature_says_so() {
    for url in ["rediss://user:s3cret@host", "valkeys://host"] {
        let error = RedisStore::connect(RedisConfig::new(url))
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("feature `tls`") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
