//! Many keys in one call: each of them keeps what is promised for one.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
    time::Duration,
};

use larder::{Error, Loaded};
use larder_core::{Replacing, Token};
use larder_testkit::{Gate, RedisCluster};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::support::{
    aging::Aging,
    calls::{Items, Numbers, value},
    database::{Database, name},
    gated::{Call, Gated, When},
    policy::{MINUTE, builder, ms, policy},
    wait::{BOUND, start},
    world::World,
};

type Many = Result<HashMap<u64, Arc<String>>, Error>;

fn set(keys: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    keys.into_iter().collect()
}

async fn load_many(cache: &Numbers, keys: &[u64], database: &Database) -> Many {
    let database = database.clone();
    cache
        .get_or_load_many(keys, |keys| database.find(keys))
        .await
}

fn start_many(cache: &Numbers, keys: &[u64], database: &Database) -> JoinHandle<Many> {
    let (cache, keys, database) = (cache.clone(), keys.to_vec(), database.clone());
    tokio::spawn(async move { load_many(&cache, &keys, &database).await })
}

async fn load_one(cache: &Numbers, key: u64, loaded: &str) {
    let loaded = value(loaded);
    cache.get_or_load(key, || loaded).await.unwrap();
}

async fn get_one(cache: &Numbers, key: u64) -> Option<String> {
    cache.get(key).await.unwrap().map(|value| (*value).clone())
}

/// Waits until a `get` says this.
async fn is_read(cache: &Numbers, key: u64, expected: Option<&str>) {
    let give_up = Instant::now() + BOUND;
    while get_one(cache, key).await.as_deref() != expected {
        assert!(Instant::now() < give_up, "{key} is not {expected:?}");
        tokio::task::yield_now().await;
    }
}

fn are(found: &HashMap<u64, Arc<String>>, keys: impl IntoIterator<Item = u64>) {
    let names = found
        .iter()
        .map(|(key, value)| (*key, (**value).clone()))
        .collect::<HashMap<_, _>>();
    assert_eq!(
        names,
        keys.into_iter().map(|key| (key, name(key))).collect()
    );
}

async fn commands(world: &World, name: &str) -> usize {
    let stats = world
        .server
        .command(&["INFO", "commandstats"])
        .await
        .unwrap()
        .text()
        .unwrap();
    let of = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    of.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_no_level_has_is_loaded_by_one_call() {
    let world = World::new().await;
    let remembering = [policy().negative_ttl(5 * MINUTE)];
    let numbers = async || {
        world
            .larder_of(&remembering)
            .await
            .cache::<u64, String>("item")
            .unwrap()
    };
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
        are(
            &load_many(cache, &[0, 2, 4, 5, 6], &database).await.unwrap(),
            [0, 2, 4, 6],
        );
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
    are(
        &load_many(&one, &keys, &database).await.unwrap(),
        keys.clone(),
    );
    assert_eq!(database.asked(), [set(keys.clone())]);
    let other: Numbers = builder()
        .remote_store(world.one_lane().await)
        .build()
        .await
        .unwrap()
        .cache("item")
        .unwrap();
    let before = (
        commands(&world, "mget").await,
        commands(&world, "get").await,
    );
    are(&other.get_many(&keys).await.unwrap(), keys.clone());
    assert_eq!(
        (
            commands(&world, "mget").await,
            commands(&world, "get").await
        ),
        (before.0 + 1, before.1)
    );
    assert_eq!((other.stats().l2_hits, other.stats().absent), (1000, 0));
    are(&other.get_many(&keys).await.unwrap(), keys); // now from L1
    assert_eq!(commands(&world, "mget").await, before.0 + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_in_any_number_are_loaded_in_chunks() {
    let world = World::new().await;
    let keys: Vec<u64> = (0..2500).map(|key| 2 * key).collect();
    let (cache, database) = (world.numbers().await, Database::default());
    are(
        &load_many(&cache, &keys, &database).await.unwrap(),
        keys.clone(),
    );
    assert_eq!(
        database
            .asked()
            .iter()
            .map(BTreeSet::len)
            .collect::<Vec<_>>(),
        [1000, 1000, 500]
    );
    let local: Numbers = builder().build().await.unwrap().cache("item").unwrap();
    are(
        &load_many(&local, &keys, &Database::default())
            .await
            .unwrap(),
        keys,
    );
}

/// Each batch loads what the other does not, and neither waits for the other before it does.
#[tokio::test(flavor = "multi_thread")]
async fn overlapping_batches_load_each_key_once() {
    let world = World::new().await;
    let (one, other) = (world.numbers().await, world.numbers().await);
    for second in [&one, &other] {
        one.invalidate_many(&(0..20_u64).collect::<Vec<_>>())
            .await
            .unwrap();
        let gates = [Gate::new(), Gate::new()];
        let databases = [Database::gated(&gates[0]), Database::gated(&gates[1])];
        let first = start_many(&one, &[0, 2, 4], &databases[0]);
        gates[0].reached().await;
        let second = start_many(second, &[4, 6, 2, 8], &databases[1]);
        gates[1].reached().await;
        assert_eq!(
            databases.each_ref().map(Database::asked),
            [[set([0, 2, 4])], [set([6, 8])]]
        );
        gates.iter().for_each(Gate::open);
        are(&first.await.unwrap().unwrap(), [0, 2, 4]);
        are(&second.await.unwrap().unwrap(), [2, 4, 6, 8]);
        assert_eq!(databases.map(|database| database.asked().len()), [1, 1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_in_opposite_order_end_and_load_each_key_once() {
    let world = World::new().await;
    let processes = [
        world.numbers().await,
        world.numbers().await,
        world.numbers().await,
    ];
    for round in 0..20 {
        let database = Database::default();
        let keys: Vec<u64> = (0..40).map(|key| 2 * (100 * round + key)).collect();
        let mut batches = JoinSet::new();
        for (n, cache) in processes.iter().cycle().take(12).enumerate() {
            let (cache, database, mut keys) = (cache.clone(), database.clone(), keys.clone());
            keys.rotate_left(3 * n);
            if n % 2 == 1 {
                keys.reverse();
            }
            batches.spawn(async move { load_many(&cache, &keys, &database).await });
        }
        for batch in tokio::time::timeout(BOUND, batches.join_all())
            .await
            .expect("they wait for each other")
        {
            are(&batch.unwrap(), keys.clone());
        }
        let loaded: usize = database.asked().iter().map(BTreeSet::len).sum();
        assert_eq!(loaded, keys.len(), "{:?}", database.asked());
    }
}

/// P3 clean-lease-commits, P16 only-for-earlier-callers: the others are kept, and all are served.
#[tokio::test(flavor = "multi_thread")]
async fn key_that_is_invalidated_during_the_load_is_the_only_one_not_kept() {
    let world = World::new().await;
    let (one, other, gate) = (world.numbers().await, world.numbers().await, Gate::new());
    let loading = start_many(&one, &[0, 2, 4], &Database::gated(&gate));
    gate.reached().await;
    other.invalidate(2).await.unwrap();
    gate.open();
    are(&loading.await.unwrap().unwrap(), [0, 2, 4]);
    for cache in [&one, &other] {
        are(&cache.get_many(&[0_u64, 2, 4]).await.unwrap(), [0, 4]);
    }
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
    are(
        &load_many(&cache, &[0, 2, 4], &database).await.unwrap(),
        [0, 2, 4],
    );
    assert_eq!(database.asked(), [set([0, 4])]);
    assert_eq!(world.l2("item:0").await, Some(format!("{:?}", name(0))));
}

/// What another caller's load was to bring is loaded after all.
#[tokio::test(flavor = "multi_thread")]
async fn batch_whose_neighbour_gives_up_loads_its_keys() {
    let world = World::new().await;
    let (one, other, gate) = (world.numbers().await, world.numbers().await, Gate::new());
    let first = start_many(&one, &[0, 2, 6], &Database::gated(&gate));
    gate.reached().await;
    let database = Database::default();
    let second = start_many(&other, &[2, 4, 6], &database);
    is_read(&other, 4, Some(&name(4))).await;
    first.abort();
    are(&second.await.unwrap().unwrap(), [2, 4, 6]);
    // Together, unless a busy machine brings the news of the two leases far apart.
    let asked = database.asked();
    let mut later: Vec<u64> = asked[1..].iter().flatten().copied().collect();
    later.sort_unstable();
    assert_eq!((&asked[0], later), (&set([4]), vec![2, 6]), "each once");
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
    are(
        &load_many(&cache, &[0, 2], &Database::default())
            .await
            .unwrap(),
        [0, 2],
    );
}

/// P13 silence-is-not-health: and a loader that takes too long is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn load_that_takes_too_long_is_given_up() {
    let world = World::new().await;
    let (cache, gate) = (
        world
            .larder_of(&[policy().load_timeout(ms(100))])
            .await
            .cache("item")
            .unwrap(),
        Gate::new(),
    );
    let hanging = load_many(&cache, &[0, 2], &Database::gated(&gate)).await;
    assert!(
        matches!(hanging, Err(Error::LoadTimedOut { .. })),
        "{hanging:?}"
    );
    are(
        &load_many(&world.numbers().await, &[0, 2], &Database::default())
            .await
            .unwrap(),
        [0, 2],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_is_one_load_of_those_that_a_row_allows() {
    let world = World::new().await;
    let (cache, gate) = (
        world
            .larder_of(&[policy().max_loads(1).max_wait(ms(50))])
            .await
            .cache("item")
            .unwrap(),
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
    are(
        &load_many(&cache, &[6, 8], &database).await.unwrap(),
        [6, 8],
    );
    assert_eq!(database.asked(), [set([6, 8])]);
}

#[tokio::test]
async fn stale_values_are_served_while_one_batch_reloads_them() {
    let aging = Aging::new();
    let cache: Numbers = aging
        .larder(&policy().stale_for(10 * MINUTE))
        .await
        .cache("item")
        .unwrap();
    are(
        &load_many(&cache, &[0, 2], &Database::default())
            .await
            .unwrap(),
        [0, 2],
    );
    aging.advance(15);
    let (gate, other): (_, Numbers) = (
        Gate::new(),
        aging
            .larder(&policy().stale_for(10 * MINUTE))
            .await
            .cache("item")
            .unwrap(),
    );
    let database = Database::gated(&gate);
    are(
        &load_many(&cache, &[0, 2], &database).await.unwrap(),
        [0, 2],
    );
    gate.reached().await;
    are(
        &load_many(&other, &[0, 2, 4], &Database::default())
            .await
            .unwrap(),
        [0, 2, 4],
    );
    are(&cache.get_many(&[0_u64, 2]).await.unwrap(), []);
    gate.open();
    is_read(&cache, 2, Some(&name(2))).await;
    assert_eq!(database.asked(), [set([0, 2])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_without_redis_is_one_load() {
    let mut world = World::new().await;
    let cache = world.numbers().await;
    load_one(&cache, 0, &name(0)).await;
    world.server.kill();
    let database = Database::default();
    are(
        &load_many(&cache, &[2, 4], &database).await.unwrap(),
        [2, 4],
    );
    assert_eq!(database.asked(), [set([2, 4])]);
    are(&cache.get_many(&[2_u64, 4, 6]).await.unwrap(), [2, 4]);
}

/// P1 stamp-before-read, P2 only-current-is-served: the answer with the old values was held back
/// while another process wrote.
#[tokio::test(flavor = "multi_thread")]
async fn answer_held_back_while_a_key_is_invalidated_is_kept_without_it() {
    let world = World::new().await;
    let store = Gated::new(world.one_lane().await);
    let (cache, other): (Numbers, _) = (
        builder()
            .remote_store(store.clone())
            .build()
            .await
            .unwrap()
            .cache("item")
            .unwrap(),
        world.numbers().await,
    );
    load_many(&other, &[0, 2], &Database::default())
        .await
        .unwrap();
    let gate = store.gate(Call::GetMany, When::After);
    let reading = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_many(&[0_u64, 2]).await }
    });
    gate.reached().await;
    other.insert(2, "new".to_owned()).await.unwrap();
    store.hear("item:2").await;
    gate.open();
    are(&reading.await.unwrap().unwrap(), [0, 2]); // it asked before
    assert_eq!(get_one(&cache, 2).await.as_deref(), Some("new"));
    let hits = cache.stats().l1_hits;
    assert_eq!(get_one(&cache, 0).await, Some(name(0)));
    assert_eq!(cache.stats().l1_hits, hits + 1);
}

/// P19 loads-end-with-callers: a batch that nobody waits for is not loaded on.
#[tokio::test]
async fn batch_that_nobody_waits_for_is_given_up() {
    let (cache, gate): (Numbers, _) = (
        builder().build().await.unwrap().cache("item").unwrap(),
        Gate::new(),
    );
    let dropped = Gate::new();
    let loader = {
        let (gate, dropped) = (gate.clone(), dropped.clone());
        move |_: Vec<u64>| async move {
            struct Tells(Gate);
            impl Drop for Tells {
                fn drop(&mut self) {
                    self.0.open();
                }
            }
            let _tells = Tells(dropped);
            gate.pass().await;
            Ok::<_, io::Error>(HashMap::from([(0, name(0))]))
        }
    };
    let loading = start({
        let cache = cache.clone();
        async move { cache.get_or_load_many(&[0_u64, 2], loader).await }
    });
    gate.reached().await;
    loading.abort();
    dropped.pass().await;
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

/// P3 clean-lease-commits: a lease that another process holds for one key does not keep the others
/// waiting.
#[tokio::test(flavor = "multi_thread")]
async fn key_that_another_process_loads_is_waited_for_and_the_others_are_not() {
    let world = World::new().await;
    let (store, token) = (world.store().await, Token::new());
    store
        .claim(
            "item:2",
            &token,
            Duration::from_secs(60),
            Replacing::Nothing,
        )
        .await
        .unwrap();
    let (cache, database) = (world.numbers().await, Database::default());
    let loading = start_many(&cache, &[0, 2, 4], &database);
    is_read(&cache, 4, Some(&name(4))).await;
    assert!(!loading.is_finished());
    let foreign = b"\"value 2\"";
    assert!(
        store
            .commit("item:2", &token, foreign, BOUND, Replacing::Nothing)
            .await
            .unwrap()
            .is_done()
    );
    are(&loading.await.unwrap().unwrap(), [0, 2, 4]);
    assert_eq!(database.asked(), [set([0, 4])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_masters_of_a_cluster_are_found_at_once() {
    let cluster = RedisCluster::start().await.unwrap();
    let cache = || async {
        builder()
            .redis(cluster.url())
            .build()
            .await
            .unwrap()
            .cache("item")
            .unwrap()
    };
    let (one, other, database) = (cache().await, cache().await, Database::default());
    let keys: Vec<u64> = (0..100).map(|key| 2 * key).collect();
    are(
        &load_many(&one, &keys, &database).await.unwrap(),
        keys.clone(),
    );
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
    let cache: Numbers = aging
        .local_larder(&policy().stale_for(10 * MINUTE))
        .await
        .cache("item")
        .unwrap();
    are(
        &load_many(&cache, &[0, 2], &Database::default())
            .await
            .unwrap(),
        [0, 2],
    );
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
            out.push(&self.0);
        }
    }
    let cache: Items = builder().build().await.unwrap().cache("item").unwrap();
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
    let cache: Numbers = builder()
        .remote_store(store.clone())
        .build()
        .await
        .unwrap()
        .cache("item")
        .unwrap();
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
