//! Many keys in one call: each of them keeps what is promised for one.

use std::{
    collections::{BTreeSet, HashMap},
    io,
};

use larder::{Error, Loaded};
use larder_testkit::{Gate, RedisCluster};

use crate::support::{
    aging::Aging,
    batch::{all_found, are, get_one, is_read, load_many, set, start_many},
    calls::{Items, Numbers, value},
    database::{Database, name},
    gated::{Call, Gated, When},
    policy::{MINUTE, builder, ms, policy, stale},
    wait::holds,
    world::{World, cache_of},
};

async fn load_one(cache: &Numbers, key: u64, loaded: &str) {
    let loaded = value(loaded);
    cache.get_or_load(key, || loaded).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_no_level_has_is_loaded_by_one_call() {
    let world = World::new().await;
    let remembering = policy().negative_ttl(5 * MINUTE);
    let numbers = || world.cache_by::<u64>(&remembering);
    let (one, other, database) = (numbers().await, numbers().await, Database::default());
    load_one(&one, 0, &name(0)).await; // in both levels
    load_one(&other, 2, &name(2)).await; // in L2
    let found = load_many(&one, &[0, 2, 4, 5, 6, 4], &database)
        .await
        .unwrap();
    are(&found, [0, 2, 4, 6]);
    assert_eq!(database.asked(), [set([4, 5, 6])]);
    // What is absent is remembered, as the policy says, also by the other process.
    for cache in [&one, &other] {
        all_found(cache, &[0, 2, 4, 5, 6], &database, [0, 2, 4, 6]).await;
        are(&cache.get_many(&[0_u64, 4, 5, 7]).await.unwrap(), [0, 4]);
    }
    assert_eq!(database.asked().len(), 1);
    assert!(load_many(&one, &[], &database).await.unwrap().is_empty());
    assert!(matches!(
        world.items().await.get_many(&["", "x"]).await,
        Err(Error::Key(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_take_one_round_trip_for_each_lane_and_thousand() {
    let world = World::new().await;
    let keys: Vec<u64> = (0..1000).map(|key| 2 * key).collect();
    let (one, database) = (world.numbers().await, Database::default());
    all_found(&one, &keys, &database, keys.clone()).await;
    assert_eq!(database.asked(), [set(keys.clone())]);
    let other: Numbers = cache_of(builder().remote_store(world.one_lane().await)).await;
    let before = (world.calls(&["mget"]).await, world.calls(&["get"]).await);
    are(&other.get_many(&keys).await.unwrap(), keys.clone());
    assert_eq!(
        (world.calls(&["mget"]).await, world.calls(&["get"]).await),
        (before.0 + 1, before.1)
    );
    assert_eq!((other.stats().l2_hits, other.stats().absent), (1000, 0));
    are(&other.get_many(&keys).await.unwrap(), keys); // now from L1
    assert_eq!(world.calls(&["mget"]).await, before.0 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_any_number_are_loaded_in_chunks() {
    let world = World::new().await;
    let keys: Vec<u64> = (0..2500).map(|key| 2 * key).collect();
    let (cache, database) = (world.numbers().await, Database::default());
    all_found(&cache, &keys, &database, keys.clone()).await;
    assert_eq!(
        database
            .asked()
            .iter()
            .map(BTreeSet::len)
            .collect::<Vec<_>>(),
        [1000, 1000, 500]
    );
    let local: Numbers = cache_of(builder()).await;
    all_found(&local, &keys, &Database::default(), keys.clone()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn value_that_cannot_be_read_is_loaded_anew_and_no_other() {
    let world = World::new().await;
    let (cache, database) = (world.numbers().await, Database::default());
    world
        .server
        .command(&["MSET", "item:0", "{", "item:2", "\"value 2\""])
        .await
        .unwrap();
    world
        .server
        .command(&["LPUSH", "item:4", "a list"])
        .await
        .unwrap();
    all_found(&cache, &[0, 2, 4], &database, [0, 2, 4]).await;
    assert_eq!(database.asked(), [set([0, 4])]);
    assert_eq!(world.l2("item:0").await, Some(format!("{:?}", name(0))));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_fails_fails_for_its_keys_and_leaves_the_others() {
    let world = World::new().await;
    let cache = world.numbers().await;
    load_one(&cache, 0, &name(0)).await;
    let failed = cache.get_or_load_many(&[0_u64, 2], |_| async {
        Err::<HashMap<u64, String>, _>(io::Error::other("database is down"))
    });
    assert!(
        matches!(failed.await, Err(Error::Load { source, .. }) if source.to_string() == "database is down")
    );
    let panics = |_| async {
        if true {
            panic!("on purpose")
        } else {
            Ok::<HashMap<u64, String>, io::Error>(HashMap::new())
        }
    };
    let panicked = cache.get_or_load_many(&[0_u64, 2], panics).await;
    assert!(
        matches!(&panicked, Err(Error::Panicked { key, .. }) if key == "item:2"),
        "{panicked:?}"
    );
    are(&cache.get_many(&[0_u64, 2]).await.unwrap(), [0]);
    all_found(&cache, &[0, 2], &Database::default(), [0, 2]).await;
}

/// P13 silence-is-not-health: and a loader that takes too long is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn load_that_takes_too_long_is_given_up() {
    let world = World::new().await;
    let (cache, gate) = (
        world.cache_by(&policy().load_timeout(ms(100))).await,
        Gate::new(),
    );
    let hanging = load_many(&cache, &[0, 2], &Database::gated(&gate)).await;
    assert!(
        matches!(hanging, Err(Error::LoadTimedOut { .. })),
        "{hanging:?}"
    );
    all_found(
        &world.numbers().await,
        &[0, 2],
        &Database::default(),
        [0, 2],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_is_one_load_of_those_that_a_row_allows() {
    let world = World::new().await;
    let (cache, gate) = (
        world
            .cache_by(&policy().max_loads(1).max_wait(ms(50)))
            .await,
        Gate::new(),
    );
    let first = start_many(&cache, &[0, 2, 4], &Database::gated(&gate));
    gate.reached().await;
    let database = Database::default();
    let crowded = load_many(&cache, &[6, 8], &database).await;
    assert!(
        matches!(crowded, Err(Error::TooManyLoads { .. })),
        "{crowded:?}"
    );
    gate.open();
    are(&first.await.unwrap().unwrap(), [0, 2, 4]);
    all_found(&cache, &[6, 8], &database, [6, 8]).await;
    assert_eq!(database.asked(), [set([6, 8])]);
}

#[tokio::test]
async fn stale_values_are_served_while_one_batch_reloads_them() {
    let aging = Aging::new();
    let cache: Numbers = cache_of(aging.builder(&stale())).await;
    all_found(&cache, &[0, 2], &Database::default(), [0, 2]).await;
    aging.advance(15);
    let other: Numbers = cache_of(aging.builder(&stale())).await;
    let gate = Gate::new();
    let database = Database::gated(&gate);
    all_found(&cache, &[0, 2], &database, [0, 2]).await;
    gate.reached().await;
    all_found(&other, &[0, 2, 4], &Database::default(), [0, 2, 4]).await;
    are(&cache.get_many(&[0_u64, 2]).await.unwrap(), []);
    gate.open();
    is_read(&cache, 2, Some(&name(2))).await;
    assert_eq!(database.asked(), [set([0, 2])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_without_redis_is_one_load() {
    let mut world = World::new().await;
    let larder = world.larder().await;
    let cache = larder.cache("item").unwrap();
    load_one(&cache, 0, &name(0)).await;
    let before = larder.stats().lanes_lost;
    world.server.kill();
    holds("each lane knows it", || {
        larder.stats().lanes_lost >= before + 2
    })
    .await;
    let database = Database::default();
    all_found(&cache, &[2, 4], &database, [2, 4]).await;
    assert_eq!(database.asked(), [set([2, 4])]);
    are(&cache.get_many(&[2_u64, 4, 6]).await.unwrap(), [2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_put_in_and_removed_together_are_so_in_all_processes() {
    let world = World::new().await;
    let (one, other) = (world.numbers().await, world.numbers().await);
    let keys: Vec<u64> = (0..2200).collect();
    one.insert_many(keys.iter().map(|key| (*key, name(*key))))
        .await
        .unwrap();
    are(&other.get_many(&keys).await.unwrap(), keys.clone());
    other.invalidate_many(&keys).await.unwrap();
    assert_eq!(
        (world.l2("item:0").await, world.l2("item:2199").await),
        (None, None)
    );
    is_read(&one, 7, None).await;
    // One that is not right keeps all from being put in.
    let refused = one
        .insert_many([
            (2201, Loaded::new(name(1))),
            (2202, Loaded::new(name(2)).tag("")),
        ])
        .await;
    assert!(matches!(refused, Err(Error::Tag { .. })), "{refused:?}");
    assert_eq!(get_one(&one, 2201).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_masters_of_a_cluster_are_found_at_once() {
    let cluster = RedisCluster::start().await.unwrap();
    let cache = || cache_of::<u64, String>(builder().redis(cluster.url()));
    let (one, other, database) = (cache().await, cache().await, Database::default());
    let keys: Vec<u64> = (0..100).map(|key| 2 * key).collect();
    all_found(&one, &keys, &database, keys.clone()).await;
    are(&other.get_many(&keys).await.unwrap(), keys.clone());
    assert_eq!((other.stats().l2_hits, other.stats().l2_errors), (100, 0));
    other.invalidate_many(&keys).await.unwrap();
    are(&other.get_many(&keys).await.unwrap(), []);
    assert_eq!(database.asked().len(), 1);
    let _ = other.get_or_load(201, || value("later")).await.unwrap();
}

/// P28 stale-only-while-current: also where there is no L2, and if the load fails.
#[tokio::test]
async fn stale_values_of_l1_alone_are_served_when_their_load_fails() {
    let aging = Aging::new();
    let cache: Numbers = aging.local_larder(&stale()).await.cache("item").unwrap();
    all_found(&cache, &[0, 2], &Database::default(), [0, 2]).await;
    aging.advance(15);
    for _ in 0..2 {
        let failing = cache.get_or_load_many(&[0_u64, 2], |_| async {
            Err::<HashMap<u64, String>, _>(io::Error::other("database is down"))
        });
        are(&failing.await.unwrap(), [0, 2]);
    }
}

/// Equal keys need not have equal names.
#[tokio::test]
async fn keys_that_are_equal_under_two_names_are_both_found() {
    #[derive(Clone)]
    struct Name(&'static str);
    impl PartialEq for Name {
        fn eq(&self, other: &Self) -> bool {
            self.0.eq_ignore_ascii_case(other.0)
        }
    }
    impl Eq for Name {}
    impl std::hash::Hash for Name {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.0.to_ascii_lowercase().hash(state);
        }
    }
    impl larder::CacheKey<String> for Name {
        fn write_to(&self, out: &mut larder::KeyBuf) {
            out.push(self.0);
        }
    }
    let cache: Items = cache_of(builder()).await;
    let loader = |names: Vec<Name>| async move {
        Ok::<_, io::Error>(
            names
                .into_iter()
                .map(|name| (name, "value".to_owned()))
                .collect::<HashMap<_, _>>(),
        )
    };
    assert_eq!(
        cache
            .get_or_load_many(&[Name("a"), Name("A")], loader)
            .await
            .unwrap()
            .len(),
        1
    );
    for name in [Name("a"), Name("A")] {
        assert_eq!(**cache.get(name).await.unwrap().as_ref().unwrap(), "value");
    }
}

/// P21 tags-pinned-in-time: values whose tags are to be asked for do not wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn tags_of_many_values_are_asked_for_at_the_same_time() {
    let world = World::new().await;
    let (store, other) = (Gated::new(world.one_lane().await), world.numbers().await);
    let cache: Numbers = cache_of(builder().remote_store(store.clone())).await;
    for key in [0, 2] {
        let tagged = Loaded::new(name(key)).tag(format!("tag {key}"));
        other
            .get_or_load(key, || async { Ok::<_, io::Error>(tagged) })
            .await
            .unwrap();
    }
    let gates = [(); 2].map(|()| store.gate(Call::Tags, When::Before));
    let reading = tokio::spawn(async move { cache.get_many(&[0_u64, 2]).await });
    for gate in &gates {
        gate.reached().await;
    }
    gates.iter().for_each(Gate::open);
    are(&reading.await.unwrap().unwrap(), [0, 2]);
}
