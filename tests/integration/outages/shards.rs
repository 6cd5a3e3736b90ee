//! One master of a cluster is gone, and the others go on.

use std::sync::Arc;

use larder::{BreakerState, StoreError};
use larder_core::{Invalidated, Key, LaneIndex, LaneState, Lanes, TagStore, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::{Proxy, RedisCluster, RedisServer};
use tokio::time::Instant;

use crate::support::{
    calls::{gets, load, value},
    cluster::{Process, TAGS, config, keys, names},
    wait::{BOUND, holds},
};

/// A cluster that answers for the slots that it has, when a master is gone.
async fn partial() -> RedisCluster {
    let options = RedisServer::builder().args(&["--cluster-require-full-coverage", "no"]);
    RedisCluster::start_as(&options, 3, 0).await.unwrap()
}

/// Whether the master of a key answers this store.
async fn answers(store: &RedisStore, key: &str) -> bool {
    store.get(&format!("item:{key}")).await.is_ok()
}

/// Waits until the master of each of these keys answers.
async fn all_answer(store: &RedisStore, keys: &[String]) {
    let give_up = Instant::now() + BOUND;
    for key in keys {
        while !answers(store, key).await {
            assert!(Instant::now() < give_up, "{key} is not answered");
        }
    }
}

/// Invalidates a key in L2, as the facade does.
async fn invalidate(store: &RedisStore, key: &str) -> Invalidated {
    let key = Key::from_stored_name(format!("item:{key}").as_str());
    store.invalidate(&key, None).await.unwrap()
}

/// The indexes of the servers without the tags, and that of the one with them.
async fn by_tags(cluster: &RedisCluster) -> (Vec<usize>, usize) {
    let tags = cluster.home(TAGS).await.unwrap();
    ((0..3).filter(|server| *server != tags).collect(), tags)
}

/// P11 unsent-goes-first: of the one master too.
#[tokio::test(flavor = "multi_thread")]
async fn shards_go_on_without_one_that_is_killed() {
    let mut cluster = partial().await;
    let process = Process::new(&cluster).await;
    let keys = keys(&cluster, "item").await;
    for key in &keys {
        load(&process.items, key, "old").await;
    }
    let (others, _) = by_tags(&cluster).await;
    let dead = others[0];
    let living: Vec<_> = (0..3)
        .filter(|n| *n != dead)
        .map(|n| keys[n].clone())
        .collect();
    cluster.servers[dead].kill();
    holds("it is noticed", || process.store.stats().lanes_lost > 0).await;
    all_answer(&process.store, &living).await;
    for (n, key) in living.iter().enumerate() {
        let written = process.items.write_through(&**key, || value("new")).await;
        assert_eq!((n, &**written.unwrap()), (n, "new"));
    }
    for server in (0..3).filter(|n| *n != dead) {
        assert!(!names(&cluster.servers[server], "item:*").await.is_empty());
    }
    // Of the dead one: loads go on, invalidations wait, and it alone is down.
    let refused = process.store.get(&format!("item:{}", keys[dead])).await;
    assert!(
        matches!(refused, Err(StoreError::Unreachable { .. })),
        "{refused:?}"
    );
    assert_eq!(
        invalidate(&process.store, &keys[dead]).await,
        Invalidated::Deferred
    );
    assert_eq!(
        invalidate(&process.store, &living[0]).await,
        Invalidated::Done
    );
    assert_eq!(load(&process.items, &keys[dead], "loaded").await, "loaded");
    let stats = process.store.stats();
    assert_eq!((stats.unsent, stats.breaker), (1, BreakerState::Closed));
    cluster.servers[dead].restart().await.unwrap();
    holds("it is used again", || process.store.stats().unsent == 0).await;
    all_answer(&process.store, &keys).await;
    process.is_back().await;
    let written = process
        .items
        .write_through(&*keys[dead], || value("new"))
        .await;
    assert_eq!(&**written.unwrap(), "new");
    gets(&process.items, &keys[dead], Some("new")).await;
    assert!(!names(&cluster.servers[dead], "item:*").await.is_empty());
    let losses = process.store.stats().data_losses;
    assert_eq!(losses, 0, "it came back empty, so nothing old is there");
}

/// P13 silence-is-not-health: one that hangs costs each lane a time-out, and then nothing.
#[tokio::test(flavor = "multi_thread")]
async fn shards_go_on_without_one_that_hangs() {
    let cluster = partial().await;
    let store = Arc::new(RedisStore::connect(config(cluster.url())).await.unwrap());
    let keys = keys(&cluster, "item").await;
    let (others, _) = by_tags(&cluster).await;
    let hung = others[0];
    let living: Vec<_> = (0..3)
        .filter(|n| *n != hung)
        .map(|n| keys[n].clone())
        .collect();
    cluster.servers[hung].pause().unwrap();
    assert!(!answers(&store, &keys[hung]).await);
    let left_out = || store.stats().lanes_lost >= 2;
    holds("each lane leaves it out", left_out).await;
    all_answer(&store, &living).await;
    // The trials of the one disturb nobody.
    let lost = store.stats().lanes_lost;
    let until = Instant::now() + store.call_timeout().unwrap() * 3;
    while Instant::now() < until {
        for key in &living {
            assert!(answers(&store, key).await, "{key}");
        }
    }
    let stats = store.stats();
    assert_eq!((stats.breaker_opened, stats.lanes_lost), (0, lost));
    cluster.servers[hung].resume().unwrap();
    all_answer(&store, &keys).await;
}

/// P11 unsent-goes-first, P24 tags-known-by-lane: tags of all shards lie on the one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_shard_that_is_gone_are_invalidated_when_it_is_back() {
    let mut cluster = partial().await;
    let store = RedisStore::connect(config(cluster.url())).await.unwrap();
    let (_, tags) = by_tags(&cluster).await;
    cluster.servers[tags].kill();
    holds("it is noticed", || store.stats().lanes_lost > 0).await;
    let give_up = Instant::now() + BOUND;
    while store.invalidate_tag("t").await.unwrap() != Invalidated::Deferred {
        assert!(Instant::now() < give_up);
    }
    let lane = LaneIndex(0);
    assert!(store.tag_epoch(lane).await.is_err());
    assert_eq!(store.stats().unsent, 2, "one for each lane");
    cluster.servers[tags].restart().await.unwrap();
    let give_up = Instant::now() + BOUND;
    while store.tag_epoch(lane).await.is_err() {
        assert!(Instant::now() < give_up);
    }
    holds("each lane has sent it", || store.stats().unsent == 0).await;
}

/// A cluster whose servers must have all slots is down as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_that_needs_every_shard_is_down_without_one() {
    let mut cluster = RedisCluster::start().await.unwrap();
    let store = RedisStore::connect(config(cluster.url())).await.unwrap();
    let keys = keys(&cluster, "item").await;
    cluster.servers[1].kill();
    holds("the breaker opens", || store.stats().breaker_opened > 0).await;
    cluster.servers[1].restart().await.unwrap();
    all_answer(&store, &keys).await;
}

/// Behind NAT the servers are at other addresses than they say.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_reached_where_the_address_map_says() {
    let cluster = RedisCluster::start().await.unwrap();
    let mut proxies = Vec::new();
    for server in &cluster.servers {
        proxies.push((server.port(), Proxy::start(&server.addr()).await.unwrap()));
    }
    let ports: Vec<_> = proxies
        .iter()
        .map(|(at, proxy)| (*at, proxy.port()))
        .collect();
    let config = config(proxies[0].1.url()).address_map(move |host, port| {
        let mapped = ports.iter().find(|(at, _)| *at == port).unwrap();
        (host.to_owned(), mapped.1)
    });
    let store = RedisStore::connect(config).await.unwrap();
    assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Scattered);
    all_answer(&store, &keys(&cluster, "item").await).await;
    for (_, proxy) in &proxies {
        assert_eq!(proxy.connections(), 2, "one for each lane");
    }
}
