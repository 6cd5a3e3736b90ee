//! Batches that meet other batches, loads and invalidations of their keys: each key is loaded once,
//! and the news about one key costs the others nothing.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    time::Duration,
};

use larder_core::{Replacing, Token, Track};
use larder_testkit::Gate;
use tokio::task::JoinSet;

use crate::support::{
    batch::{are, get_one, is_read, load_many, set, start_many},
    calls::Numbers,
    database::{Database, name},
    gated::{Call, Gated, When},
    policy::builder,
    wait::{BOUND, start},
    world::{World, cache_of},
};

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

/// A key whose load by another caller came to nothing is loaded after all.
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

/// P1 stamp-before-read, P2 only-current-is-served: the answer with the old values was held back
/// while another process wrote.
#[tokio::test(flavor = "multi_thread")]
async fn answer_held_back_while_a_key_is_invalidated_is_kept_without_it() {
    let world = World::new().await;
    let store = Gated::new(world.one_lane().await);
    let (cache, other): (Numbers, _) = (
        cache_of(builder().remote_store(store.clone())).await,
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
    let (cache, gate): (Numbers, _) = (cache_of(builder()).await, Gate::new());
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
            Track::Value,
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
            .commit(
                "item:2",
                &token,
                foreign,
                BOUND,
                Replacing::Nothing,
                Track::Value
            )
            .await
            .unwrap()
            .is_done()
    );
    are(&loading.await.unwrap().unwrap(), [0, 2, 4]);
    assert_eq!(database.asked(), [set([0, 4])]);
}
