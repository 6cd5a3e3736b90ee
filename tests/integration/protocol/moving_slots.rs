//! Slots that move to another master, and masters that go away, say nothing, and come back.

use std::time::Duration;

use larder::{Key, StoreError};
use larder_core::{Invalidated, LaneState, Lanes, ValueStore};
use larder_testkit::{Proxy, RedisCluster, RedisServer};
use tokio::time::Instant;

use crate::support::{
    calls::{get, gets, load, load_tagged},
    cluster::{Process, TAGS, cluster, config, keys, names},
    wait::{BOUND, holds},
};

/// P27 channel-proves-alive: each connection is proved, and one that is deaf makes the lane so.
#[tokio::test(flavor = "multi_thread")]
async fn deaf_connection_to_one_master_is_found() {
    let cluster = cluster().await;
    let proxy = Proxy::start(&cluster.servers[2].addr()).await.unwrap();
    cluster.announce(2, proxy.port()).await.unwrap();
    let period = Duration::from_millis(100);
    let process = Process::with(config(cluster.url()).probe_interval(period)).await;
    holds("a probe came back", || {
        process.larder.stats().push_lag.is_some()
    })
    .await;
    assert_eq!(
        (
            process.larder.stats().probe_failures,
            process.larder.stats().lanes_lost
        ),
        (0, 0)
    );
    let key = keys(&cluster, "item").await.swap_remove(2);
    load(&process.items, &key, "old").await;
    proxy.deafen(true);
    cluster
        .command(&["SET", &format!("item:{key}"), "\"new\""])
        .await
        .unwrap();
    gets(&process.items, &key, Some("new")).await;
    holds("it is degraded", || process.is(LaneState::Untracked)).await;
    proxy.deafen(false);
    process.is_back().await;
}

/// P10 loss-told-before-successor, P13 silence-is-not-health: a connection that is silent is lost,
/// and the lane with it, however busy the others are.
#[tokio::test(flavor = "multi_thread")]
async fn silent_master_is_noticed_while_others_are_busy() {
    // Nothing else must notice: neither the other masters, which then would refuse, nor a probe.
    let alone = RedisServer::builder().args(&["--cluster-require-full-coverage", "no"]);
    let cluster = RedisCluster::start_as(&alone, 3, 0).await.unwrap();
    let never = Duration::from_secs(3600);
    let process = Process::with(config(cluster.url()).lanes(1).probe_interval(never)).await;
    let keys = keys(&cluster, "item").await;
    load(&process.items, &keys[1], "v").await;
    cluster.servers[1].pause().unwrap();
    let (store, busy) = (process.store.clone(), format!("item:{}", keys[0]));
    let asking = tokio::spawn(async move { while store.get(&busy).await.is_ok() {} });
    holds("it is noticed", || process.is(LaneState::Down)).await;
    asking.await.unwrap();
    cluster.servers[1].resume().unwrap();
    process.is_back().await;
    let silent = format!("item:{}", keys[1]);
    let give_up = Instant::now() + BOUND;
    while process.store.get(&silent).await.is_err() {
        assert!(Instant::now() < give_up, "it is used again");
    }
    assert_eq!(load(&process.items, &keys[1], "other").await, "v");
}

/// P10 loss-told-before-successor, P11 unsent-goes-first: calls that meet a slot which has moved
/// heal, and nothing stale is left.
#[tokio::test(flavor = "multi_thread")]
async fn moved_slot_is_found_again_and_serves_nothing_old() {
    let cluster = cluster().await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
    for (from, key) in keys(&cluster, "item").await.iter().enumerate() {
        let name = format!("item:{key}");
        load(&one.items, key, "old").await;
        assert_eq!(get(&other.items, key).await.as_deref(), Some("old"));
        if from == 2 {
            cluster.command(&["DEL", &name]).await.unwrap(); // else it moves with its slot
        }
        let to = (from + 1) % 3;
        cluster.move_slot(&name, to).await.unwrap();
        let third = Process::new(&cluster).await; // which knows no other place
        third
            .items
            .insert(key.as_str(), "new".to_owned())
            .await
            .unwrap();
        for process in [&one, &other] {
            gets(&process.items, key, Some("new")).await;
            process.is_back().await;
        }
        for written in ["newer", "newest"] {
            other
                .items
                .insert(key.as_str(), written.to_owned())
                .await
                .unwrap();
            gets(&one.items, key, Some(written)).await;
        }
        assert_eq!(cluster.home(&name).await.unwrap(), to);
        cluster.move_slot(&name, from).await.unwrap();
        one.items.invalidate(key.as_str()).await.unwrap();
        assert_eq!(
            get(&one.items, key).await,
            None,
            "it was sent before anything was read"
        );
        gets(&other.items, key, None).await;
        assert_eq!(load(&one.items, key, "again").await, "again");
        one.is_back().await;
    }
    assert!(one.larder.stats().lanes_lost > 0);
}

/// P21 tags-pinned-in-time: the tags' own slot moves too.
#[tokio::test(flavor = "multi_thread")]
async fn moved_tags_are_found_again() {
    let cluster = cluster().await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
    let keys = keys(&cluster, "item").await;
    for key in &keys {
        load_tagged(&one.items, key, "old", "t").await;
    }
    let to = (cluster.home(TAGS).await.unwrap() + 1) % 3;
    cluster.move_slot(TAGS, to).await.unwrap();
    one.larder.invalidate_tag("t").await.unwrap();
    for key in &keys {
        gets(&one.items, key, None).await;
    }
    holds("it was sent", || one.store.stats().unsent == 0).await;
    one.is_back().await;
    for key in &keys {
        gets(&other.items, key, None).await;
        other.is_back().await;
        load_tagged(&one.items, key, "new", "t").await;
        gets(&other.items, key, Some("new")).await;
    }
}

/// P25 clear-leaves-nothing: a master that had no slots when the process connected is cleared too.
#[tokio::test(flavor = "multi_thread")]
async fn slot_that_moved_to_a_new_master_is_cleared() {
    let cluster = RedisCluster::start_as(&RedisServer::builder(), 3, 1)
        .await
        .unwrap();
    let process = Process::new(&cluster).await;
    let key = keys(&cluster, "item").await.swap_remove(1);
    load(&process.items, &key, "old").await;
    cluster.move_slot(&format!("item:{key}"), 3).await.unwrap();
    process.items.clear().await.unwrap();
    assert_eq!(
        names(&cluster.servers[3], "item:*").await,
        Vec::<String>::new()
    );
    assert_eq!(get(&process.items, &key).await, None);
}

/// P25 clear-leaves-nothing: what is on its way from one master to another may be seen by neither,
/// so nobody is told that it is gone. P10 loss-told-before-successor: a call that meets it costs
/// its lane the connections.
#[tokio::test(flavor = "multi_thread")]
async fn slot_on_its_way_refuses_a_clear_and_what_is_asked_of_it() {
    let cluster = RedisCluster::start_as(&RedisServer::builder(), 3, 1)
        .await
        .unwrap();
    let process = Process::new(&cluster).await;
    let key = keys(&cluster, "item").await.swap_remove(1);
    load(&process.items, &key, "old").await;
    cluster.begin_move(&format!("item:{key}"), 3).await.unwrap();
    let refused = process.items.clear().await.unwrap_err();
    assert!(
        format!("{refused} {refused:?}").contains("on their way"),
        "{refused:?}"
    );
    process.is_back().await;
    let asked = process.store.get(&format!("item:{key}")).await; // `ASK`
    assert!(
        matches!(asked, Err(StoreError::Unreachable { .. })),
        "{asked:?}"
    );
    cluster.end_move(&format!("item:{key}"), 3).await.unwrap();
    gets(&process.items, &key, Some("old")).await;
    process.is_back().await;
    process.items.clear().await.unwrap();
    assert_eq!(
        names(&cluster.servers[3], "item:*").await,
        Vec::<String>::new()
    );
}

/// P10 loss-told-before-successor: a master that was away makes all that its lanes have read out of
/// date.
#[tokio::test(flavor = "multi_thread")]
async fn killed_master_that_is_back_is_used_again() {
    let mut cluster = cluster().await;
    let process = Process::new(&cluster).await;
    let keys = keys(&cluster, "item").await;
    for key in &keys {
        load(&process.items, key, "old").await;
    }
    cluster.servers[1].kill();
    // Until they know that slots are missing, the other masters go on.
    for master in [0, 2] {
        let give_up = Instant::now() + BOUND;
        let ask = ["CLUSTER", "INFO"];
        while let said = cluster.servers[master].command(&ask).await.unwrap()
            && !said.text().unwrap().contains("cluster_state:fail")
        {
            assert!(Instant::now() < give_up, "the cluster goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    holds("the loss is noticed", || process.is(LaneState::Down)).await;
    for key in &keys {
        let served = load(&process.items, key, "from the loader").await;
        assert_eq!(
            served, "from the loader",
            "what was read through a lost lane is out of date"
        );
    }
    let deferred = process
        .store
        .invalidate(
            &Key::from_stored_name(format!("item:{}", keys[0]).as_str()),
            None,
        )
        .await
        .unwrap();
    assert_eq!(deferred, Invalidated::Deferred);
    cluster.servers[1].restart().await.unwrap();
    process.is_back().await;
    assert_eq!(
        names(&cluster.servers[0], "item:*").await,
        Vec::<String>::new(),
        "P11 unsent-goes-first: sent first"
    );
    cluster.settle().await.unwrap();
    for key in &keys {
        process.items.invalidate(key.as_str()).await.unwrap();
        assert_eq!(load(&process.items, key, "new").await, "new");
    }
    process.is_back().await;
}

/// Where the cluster is was learned from it: the address that the application named is only where
/// it began.
#[tokio::test(flavor = "multi_thread")]
async fn cluster_whose_seed_is_gone_is_found_by_its_masters() {
    let options = RedisServer::builder().password("hidden");
    let mut cluster = RedisCluster::start_as(&options, 3, 1).await.unwrap();
    let process = Process::with(config(cluster.servers[3].url())).await;
    assert!(process.is(LaneState::Scattered));
    cluster.servers[3].kill();
    let key = keys(&cluster, "item").await.swap_remove(0);
    load(&process.items, &key, "v").await;
    cluster.servers[0]
        .command(&["CLIENT", "KILL", "TYPE", "normal"])
        .await
        .unwrap();
    holds("the loss is noticed", || {
        process.larder.stats().lanes_lost >= 2
    })
    .await;
    process.is_back().await;
    assert_eq!(load(&process.items, &key, "other").await, "v");
}
