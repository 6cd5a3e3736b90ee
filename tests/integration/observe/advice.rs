//! A setting that is possible but will hurt is logged when the larder is built, each once, and
//! hinders nothing.

use larder::{Larder, RedisConfig, TtlTable};
use larder_testkit::{Direction, RedisServer};
use tokio::time::Instant;

use crate::support::{calls::load, log::Log, redis::config, wait::BOUND, world::World};

/// The log while a larder with this table is built on this server.
async fn said(table: &str, config: RedisConfig) -> Log {
    let log = Log::default();
    let _listening = log.listen();
    let table = TtlTable::from_toml(table).unwrap();
    let larder = Larder::builder()
        .ttl_table(table)
        .redis_config(config)
        .build()
        .await
        .unwrap();
    assert_eq!(
        load(&larder.cache("user_profile").unwrap(), "k", "value").await,
        "value"
    );
    log
}

#[tokio::test]
async fn table_of_defaults_on_a_server_of_defaults_is_not_spoken_of() {
    let world = World::new().await;
    let log = said("", RedisConfig::new(world.server.url())).await;
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn advice_is_logged_once_for_its_row_with_its_remedy() {
    let world = World::new().await;
    let table = "[a]\nttl = '1m'\nl1_ttl = '1h'\n[b]\nttl = '1m'\nstale_for = '5s'";
    let log = said(table, RedisConfig::new(world.server.url())).await;
    assert_eq!(
        (log.count("is never reached"), log.count("WARN")),
        (1, 2),
        "{}",
        log.text()
    );
    assert!(
        log.text()
            .contains("policy=\"b\" key=\"stale_for\" remedy=\"set it to"),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn lease_under_the_command_timeout_is_advised_against() {
    let world = World::new().await;
    let table = "[a]\nttl = '1m'\nlease = '500ms'\n[b]\nttl = '1m'\nlease = '500ms'\nlevels = 'l1'";
    let log = said(table, RedisConfig::new(world.server.url())).await;
    assert_eq!(
        log.count("can end while its renewal waits"),
        1,
        "{}",
        log.text()
    );
    assert!(
        log.text().contains("policy=\"a\" key=\"lease\""),
        "{}",
        log.text()
    );
}

#[tokio::test]
async fn long_life_in_l1_is_advised_against_where_nothing_is_pushed() {
    let table = "[a]\nttl = '1h'\nl1_ttl = '6m'\n[b]\nttl = '1h'\nlevels = 'l1'";
    let tracks = World::new().await;
    let log = said(table, RedisConfig::new(tracks.server.url())).await;
    assert_eq!(log.count("does not push changes"), 0, "{}", log.text());
    let tells = World::without_tracking().await;
    let log = said(table, RedisConfig::new(tells.server.url())).await;
    assert_eq!(log.count("does not push changes"), 1, "{}", log.text());
}

#[tokio::test]
async fn full_server_that_will_refuse_writes_is_advised_against() {
    for (policy, said_so) in [("noeviction", 1), ("allkeys-lru", 0), ("volatile-lru", 0)] {
        let limits = ["--maxmemory", "64mb", "--maxmemory-policy", policy];
        let server = RedisServer::builder().args(&limits).start().await.unwrap();
        let log = said("", RedisConfig::new(server.url())).await;
        assert_eq!(
            log.count("maxmemory-policy noeviction"),
            said_so,
            "{policy}: {}",
            log.text()
        );
    }
    let server = World::refusing(&["-config"]).await.server;
    assert_eq!(said("", RedisConfig::new(server.url())).await.text(), "");
}

/// A store that would tell of its settings, but does not answer.
#[tokio::test]
async fn server_that_does_not_answer_holds_up_the_start_for_a_command_timeout_at_most() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let store = larder_redis::RedisStore::connect(config(proxy.url()))
        .await
        .unwrap();
    proxy.stall(Direction::ToClient, true);
    let start = Instant::now();
    let larder = Larder::builder()
        .remote_store(std::sync::Arc::new(store))
        .build()
        .await
        .unwrap();
    assert!(start.elapsed() < BOUND / 2, "{:?}", start.elapsed());
    drop(larder);
}
