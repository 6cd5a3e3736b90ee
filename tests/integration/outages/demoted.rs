//! A single address that fails over: its server becomes a replica, and the address then leads to
//! the new master.

use std::sync::Arc;

use larder::{BreakerState, StoreError};
use larder_core::{Invalidated, LaneState, Lanes, LeaseStore, Replacing, Token, Track, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::{Proxy, RedisServer};
use tokio::time::Instant;

use crate::support::{
    policy::{MINUTE, ms},
    redis::config,
    store::{are, key},
    wait::{BOUND, holds},
};

/// A master, its replica, and a proxy that stands for the address of both.
struct Pair {
    servers: [RedisServer; 2],
    proxy: Proxy,
}

impl Pair {
    async fn new() -> Self {
        let master = RedisServer::start().await.unwrap();
        let port = master.port().to_string();
        let replica = RedisServer::builder()
            .args(&["--replicaof", "127.0.0.1", &port])
            .args(&["--repl-diskless-sync-delay", "0"]);
        let replica = replica.start().await.unwrap();
        let proxy = Proxy::start(&master.addr()).await.unwrap();
        let pair = Self {
            servers: [master, replica],
            proxy,
        };
        pair.replicates(1).await;
        pair
    }

    /// Waits until this server is a replica that has caught up.
    async fn replicates(&self, replica: usize) {
        let give_up = Instant::now() + BOUND;
        let master = &self.servers[1 - replica];
        while !has(master, "replication", "state=online").await {
            assert!(Instant::now() < give_up, "it does not replicate");
        }
    }

    /// Promotes the replica and demotes the master. Connections stay where they are, and new ones
    /// are led to the new master.
    async fn fail_over(&self) {
        let [old, new] = &self.servers;
        new.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
        let port = new.port().to_string();
        let words = ["REPLICAOF", "127.0.0.1", &port];
        old.command(&words).await.unwrap();
        self.proxy.lead_to(&new.addr());
        self.replicates(0).await;
    }
}

async fn has(server: &RedisServer, section: &str, text: &str) -> bool {
    let said = server.command(&["INFO", section]).await.unwrap().text();
    said.is_some_and(|said| said.contains(text))
}

/// How many clients of a server have read through a connection that tracks.
async fn trackers(server: &RedisServer) -> usize {
    let list = server.command(&["CLIENT", "LIST"]).await.unwrap();
    list.text().unwrap().matches(" flags=t ").count()
}

/// Waits until probes have written this many times more to a server that nobody else writes to:
/// twice for each lane, over the lane and over the probe's own connection.
async fn probes(server: &RedisServer, more: u64) {
    let (before, give_up) = (sets(server).await, Instant::now() + BOUND);
    while sets(server).await < before + more {
        assert!(Instant::now() < give_up, "it is not probed");
    }
}

/// How many values were written to a server, by its own count.
async fn sets(server: &RedisServer) -> u64 {
    let said = server.command(&["INFO", "commandstats"]).await.unwrap();
    let said = said.text().unwrap();
    let calls = said
        .split_once("cmdstat_set:calls=")
        .and_then(|(_, rest)| rest.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn write_to_a_demoted_server_leads_to_the_new_master() {
    let pair = Pair::new().await;
    let config = config(pair.proxy.url())
        .ping_interval(BOUND)
        .probe_interval(BOUND);
    let store = RedisStore::connect(config).await.unwrap();
    pair.fail_over().await;
    assert_eq!(
        store.invalidate(&key("item", 1), None).await.unwrap(),
        Invalidated::Deferred
    );
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    assert_eq!(
        (trackers(&pair.servers[1]).await, store.stats().unsent),
        (2, 0)
    );
    let (token, nothing) = (Token::new(), Replacing::Nothing);
    store
        .claim("k", &token, MINUTE, nothing, Track::Value)
        .await
        .unwrap();
    store
        .commit("k", &token, b"v", MINUTE, nothing, Track::Value)
        .await
        .unwrap();
    let there = pair.servers[1].command(&["GET", "k"]).await.unwrap();
    assert_eq!(there.text().as_deref(), Some("v"));
}

/// A process that only reads is never refused, so the probe finds out.
#[tokio::test(flavor = "multi_thread")]
async fn reader_of_a_demoted_server_is_led_to_the_new_master() {
    let pair = Pair::new().await;
    let config = config(pair.proxy.url())
        .ping_interval(BOUND)
        .probe_interval(ms(50));
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    pair.fail_over().await;
    let give_up = Instant::now() + BOUND;
    while trackers(&pair.servers[1]).await < 2 {
        let _unreachable_meanwhile = store.get("k").await;
        assert!(Instant::now() < give_up, "it stays at the old one");
    }
    assert_eq!(trackers(&pair.servers[0]).await, 0);
    holds("it is back", || are(&store, LaneState::Tracking)).await;
    // The probes go to the new master too, and find it well.
    let lost = store.stats().lanes_lost;
    let first = pair.proxy.connections();
    probes(&pair.servers[1], 4).await;
    holds("it is probed", || store.stats().push_lag.is_some()).await;
    // The probe's own connection is a new one too, but only once.
    let opened = pair.proxy.connections();
    assert!(opened - first <= 1, "{first} connections, then {opened}");
    probes(&pair.servers[1], 8).await;
    assert_eq!(
        (store.stats().lanes_lost, pair.proxy.connections()),
        (lost, opened)
    );
}

/// As long as the address leads to a replica, it is not read from: what it has may be old.
#[tokio::test(flavor = "multi_thread")]
async fn replica_is_never_used() {
    let pair = Pair::new().await;
    let error = RedisStore::connect(config(pair.servers[1].url()))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, StoreError::Unfit { problem, .. } if problem.contains("replica")),
        "{error:?}"
    );
    let store = RedisStore::connect_lazy(config(pair.servers[1].url())).unwrap();
    holds("the breaker opens", || {
        store.stats().breaker != BreakerState::Closed
    })
    .await;
    assert!(store.get("k").await.is_err() && are(&store, LaneState::Down));
    pair.fail_over().await; // which makes it the master
    holds("it is used", || are(&store, LaneState::Tracking)).await;
}
