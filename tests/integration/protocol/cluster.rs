//! A cluster: keys, clears and tags on several masters are used like those of one server.

use std::sync::Arc;

use larder_core::{LaneIndex, LaneState, Lanes, RemoteStore};
use larder_redis::{Coherence, RedisConfig, RedisStore};
use larder_testkit::{Gate, Proxy, RedisCluster, RedisServer, conformance};

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load, slow_tagged_load, value},
    cluster::{Process, TAGS, cluster, config, keys, names},
};

/// P3 clean-lease-commits to P6 one-writer-first, P21 tags-pinned-in-time,
/// P23 tags-pinned-before-commit to P26 scripts-publish: a cluster is a remote store like any
/// other.
#[tokio::test(flavor = "multi_thread")]
async fn redis_store_on_a_cluster_conforms() {
    let cluster = cluster().await;
    let store = async || {
        let store = RedisStore::connect(RedisConfig::new(cluster.url()).lanes(2))
            .await
            .unwrap();
        assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Scattered);
        Arc::new(store) as Arc<dyn RemoteStore>
    };
    conformance::remote_store(store).await;
}

/// P26 scripts-publish: the same, where the servers refuse tracking: each is told what is published
/// at another.
#[tokio::test(flavor = "multi_thread")]
async fn redis_store_on_a_cluster_without_tracking_conforms() {
    let options = RedisServer::builder().refusing(&["-client|tracking"]);
    let cluster = RedisCluster::start_as(&options, 3, 0).await.unwrap();
    let told = || {
        RedisConfig::new(cluster.url())
            .lanes(2)
            .coherence(Coherence::Channel)
    };
    let store = async || {
        let store = RedisStore::connect(told()).await.unwrap();
        assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Subscribed);
        Arc::new(store) as Arc<dyn RemoteStore>
    };
    conformance::remote_store(store).await;
    let (one, other) = (Process::with(told()).await, Process::with(told()).await);
    for key in keys(&cluster, "item").await {
        load(&one.items, &key, "old").await;
        assert_eq!(get(&other.items, &key).await.as_deref(), Some("old"));
        one.items.clear().await.unwrap();
        gets(&other.items, &key, None).await; // the clear is told once, for all masters
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_shards_are_used_like_any_other() {
    let cluster = cluster().await;
    let process = Process::new(&cluster).await;
    let cache = &process.items;
    for n in 0..100 {
        let key = format!("k{n}");
        assert_eq!(load(cache, &key, "v1").await, "v1");
        let written = cache.write_through(&*key, || value("v2")).await.unwrap();
        assert_eq!(
            (&**written, get(cache, &key).await.as_deref()),
            ("v2", Some("v2"))
        );
    }
    let mut total = 0;
    for server in &cluster.servers {
        let names = names(server, "item:*").await;
        assert!(names.len() > 10, "a shard has {names:?}");
        total += names.len();
    }
    assert_eq!(total, 100);
    process
        .larder
        .invalidate((0..100).map(|n| cache.key(format!("k{n}"))))
        .await
        .unwrap();
    for server in &cluster.servers {
        assert_eq!(names(server, "item:*").await, Vec::<String>::new());
    }
    let stats = process.larder.stats();
    assert_eq!((stats.lanes_lost, cache.stats().l2_errors), (0, 0));
}

/// P25 clear-leaves-nothing: on every master, and what was being loaded before.
#[tokio::test(flavor = "multi_thread")]
async fn plain_policy_under_load_is_cleared_on_every_master() {
    let cluster = cluster().await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
    for n in 0..100 {
        load(&one.items, &format!("k{n}"), "old").await;
        load(
            &one.larder.cache("other").unwrap(),
            &format!("k{n}"),
            "kept",
        )
        .await;
    }
    let (gate, mut loads) = (Gate::new(), Vec::new());
    for key in keys(&cluster, "item").await {
        loads.push((slow_load(&one.items, &key, "old", &gate), key));
    }
    gate.reached_by(3).await;
    other.items.clear().await.unwrap();
    gate.open();
    for (load, key) in loads {
        load.await.unwrap().unwrap();
        assert_eq!(get(&other.items, &key).await, None);
    }
    for server in &cluster.servers {
        for pattern in ["item:*", "larder:lease*"] {
            assert_eq!(names(server, pattern).await, Vec::<String>::new());
        }
        assert!(!names(server, "other:*").await.is_empty());
    }
    for n in 0..100 {
        gets(&one.items, &format!("k{n}"), None).await;
    }
}

/// P25 clear-leaves-nothing: with a tag, which is on one master only.
#[tokio::test(flavor = "multi_thread")]
async fn policy_of_instant_clears_under_load_is_cleared_on_every_master() {
    let cluster = cluster().await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
    let [here, there] =
        [&one, &other].map(|of| of.larder.cache::<String, String>("instant").unwrap());
    let keys = keys(&cluster, "instant").await;
    for key in &keys {
        load(&here, key, "old").await;
        load(&here, &format!("{key}x"), "old").await;
    }
    let (gate, mut loads) = (Gate::new(), Vec::new());
    for key in &keys {
        here.invalidate(key.as_str()).await.unwrap();
        loads.push(slow_load(&here, key, "old", &gate));
    }
    gate.reached_by(3).await;
    there.clear().await.unwrap();
    gate.open();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    for key in &keys {
        assert_eq!(get(&there, key).await, None, "{key}");
        assert_eq!(get(&there, &format!("{key}x")).await, None, "{key}");
        gets(&here, &format!("{key}x"), None).await;
        load(&here, key, "new").await;
        assert_eq!(get(&there, key).await.as_deref(), Some("new"));
    }
}

/// P12 tracking-never-assumed, P17 pushes-before-replies: each connection is told what its server
/// has.
#[tokio::test(flavor = "multi_thread")]
async fn change_on_any_shard_reaches_the_other_process() {
    let cluster = cluster().await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
    for key in keys(&cluster, "item").await {
        load(&one.items, &key, "v1").await;
        assert_eq!(get(&other.items, &key).await.as_deref(), Some("v1"));
        one.items
            .insert(key.as_str(), "v2".to_owned())
            .await
            .unwrap();
        gets(&other.items, &key, Some("v2")).await;
        other.hand.advance(other.items.policy().degraded_l1_ttl());
        let hits = other.items.stats().l1_hits;
        assert_eq!(get(&other.items, &key).await.as_deref(), Some("v2"));
        assert_eq!(
            other.items.stats().l1_hits,
            hits + 1,
            "L1 believes that it would be told"
        );
        cluster
            .command(&["SET", &format!("item:{key}"), "\"v3\""])
            .await
            .unwrap();
        gets(&other.items, &key, Some("v3")).await;
        one.items.invalidate(key.as_str()).await.unwrap();
        gets(&other.items, &key, None).await;
    }
}

/// P21 tags-pinned-in-time, P23 tags-pinned-before-commit: entries on every master, their tag on
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn invalidated_tag_takes_its_entries_on_all_masters() {
    let cluster = cluster().await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
    let keys = keys(&cluster, "item").await;
    let gate = Gate::new();
    for key in &keys {
        load_tagged(&one.items, key, "old", "t").await;
        load_tagged(&one.items, &format!("{key}u"), "kept", "u").await;
        assert_eq!(get(&other.items, key).await.as_deref(), Some("old"));
    }
    let loads: Vec<_> = keys
        .iter()
        .map(|key| slow_tagged_load(&one.items, &format!("{key}slow"), "old", "t", &gate))
        .collect();
    gate.reached_by(3).await;
    other.larder.invalidate_tag("t").await.unwrap();
    gate.open();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    for key in &keys {
        assert_eq!(get(&other.items, key).await, None);
        assert_eq!(
            get(&other.items, &format!("{key}slow")).await,
            None,
            "a load that began before"
        );
        gets(&one.items, key, None).await;
        gets(&one.items, &format!("{key}slow"), None).await;
        assert_eq!(
            get(&other.items, &format!("{key}u")).await.as_deref(),
            Some("kept")
        );
        load_tagged(&one.items, key, "new", "t").await;
        assert_eq!(get(&other.items, key).await.as_deref(), Some("new"));
    }
}

/// P24 tags-known-by-lane: the push for a tag comes from another server than the value, so in no
/// order with it.
#[tokio::test(flavor = "multi_thread")]
async fn tag_whose_push_is_late_is_not_believed_for_a_value_of_another_master() {
    let cluster = cluster().await;
    let home = cluster.home(TAGS).await.unwrap();
    let proxy = Proxy::start(&cluster.servers[home].addr()).await.unwrap();
    cluster.announce(home, proxy.port()).await.unwrap();
    let away = (home + 1) % 3;
    let process = Process::with(config(cluster.servers[away].url()).lanes(1)).await;
    let cache: Items = process.larder.cache("shared").unwrap();
    let key = keys(&cluster, "shared").await.swap_remove(away);
    load_tagged(&cache, &key, "old", "t").await;
    assert_eq!(
        get(&cache, &key).await.as_deref(),
        Some("old"),
        "its tag is known here"
    );
    assert_eq!(process.store.lane_state(LaneIndex(0)), LaneState::Scattered);
    proxy.deafen(true);
    Process::new(&cluster)
        .await
        .larder
        .invalidate_tag("t")
        .await
        .unwrap();
    assert_eq!(get(&cache, &key).await, None);
}
