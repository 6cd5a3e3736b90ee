//! A cluster: keys on several masters, slots that move, masters that go away and come back.

use std::{sync::Arc, time::Duration};

use larder::{Clock, Key, Larder, Levels, ManualClock, StoreError};
use larder_core::{Invalidated, LaneIndex, LaneState, Lanes, RemoteStore, ValueStore};
use larder_redis::{RedisConfig, RedisStore};
use larder_testkit::{Gate, Proxy, RedisCluster, RedisServer, Reply, conformance};

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load, slow_tagged_load, value},
    policy::{builder_of, named, policy},
    wait::holds,
};

/// What the tags' slot holds.
const TAGS: &str = "larder:{tags}";

struct Process {
    store: Arc<RedisStore>,
    larder: Larder,
    items: Items,
    hand: ManualClock,
}

impl Process {
    async fn new(cluster: &RedisCluster) -> Self {
        Self::with(config(cluster.url())).await
    }

    async fn with(config: RedisConfig) -> Self {
        let store = Arc::new(RedisStore::connect(config).await.unwrap());
        let (clock, hand) = Clock::manual();
        let policies = [
            policy(),
            named("other"),
            named("shared").levels(Levels::L2),
            named("instant").instant_clear(true),
        ];
        let larder = builder_of(&policies)
            .remote_store(store.clone())
            .clock(clock)
            .build()
            .await
            .unwrap();
        let items = larder.cache("item").unwrap();
        Self {
            store,
            larder,
            items,
            hand,
        }
    }

    fn is(&self, state: LaneState) -> bool {
        LaneIndex::all(self.store.lanes()).all(|lane| self.store.lane_state(lane) == state)
    }

    async fn is_back(&self) {
        holds("all lanes are connected", || self.is(LaneState::Scattered)).await;
    }
}

/// More servers run at a time than in other tests, so each is given more time.
fn config(url: String) -> RedisConfig {
    crate::support::redis::config(url)
        .connect_timeout(Duration::from_secs(5))
        .command_timeout(Duration::from_secs(1))
}

async fn cluster() -> RedisCluster {
    RedisCluster::start().await.unwrap()
}

/// A key of this policy for each server of a cluster.
async fn keys(cluster: &RedisCluster, policy: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for server in 0..3 {
        for n in 0.. {
            let key = format!("{server}-{n}");
            if cluster.home(&format!("{policy}:{key}")).await.unwrap() == server {
                keys.push(key);
                break;
            }
        }
    }
    keys
}

/// The names that a server has, by a pattern.
async fn names(server: &RedisServer, pattern: &str) -> Vec<String> {
    let Reply::Array(names) = server.command(&["KEYS", pattern]).await.unwrap() else {
        panic!()
    };
    names.iter().filter_map(Reply::text).collect()
}

/// P3 clean-lease-commits to P6 one-writer-first, P21 tags-pinned-in-time,
/// P23 tags-pinned-before-commit to P26 scripts-publish: a cluster is a remote store like any other.
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
    let refuse = [
        "--user",
        "default",
        "on",
        "nopass",
        "~*",
        "&*",
        "+@all",
        "-client|tracking",
    ];
    let options = RedisServer::builder().args(&refuse);
    let cluster = RedisCluster::start_as(&options, 3, 0).await.unwrap();
    let store = async || {
        let store = RedisStore::connect(RedisConfig::new(cluster.url()).lanes(2))
            .await
            .unwrap();
        assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Subscribed);
        Arc::new(store) as Arc<dyn RemoteStore>
    };
    conformance::remote_store(store).await;
    let (one, other) = (Process::new(&cluster).await, Process::new(&cluster).await);
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
