//! An L1 that is too small for its keys keeps those which are asked for most, as its map does by
//! itself.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ranks are small and not negative"
)]

use std::convert::Infallible;

use fastrand::Rng;
use larder::{Cache, L1Store, Larder};

const CAPACITY: u16 = 2000;
const KEYS: u32 = 20_000;
const READS: usize = 200_000;
/// The number of keys that are read at once.
const MANY: usize = 10;

/// The share of the later reads that find their key, in per cent, when a few keys are asked for
/// often: that of rank k as often as 1 / k. `read` says how many of the keys it has found, and puts
/// in the others.
async fn ratio(mut read: impl AsyncFnMut(&[u32]) -> usize) -> f64 {
    let mut random = Rng::with_seed(7);
    let mut order: Vec<u32> = (0..KEYS).collect();
    random.shuffle(&mut order);
    let drawn: Vec<u32> = (0..READS)
        .map(|_| order[f64::from(KEYS).powf(random.f64()) as usize - 1])
        .collect();
    let (warm, measured) = drawn.split_at(READS / 4);
    for keys in warm.chunks(MANY) {
        read(keys).await;
    }
    let mut found = 0;
    for keys in measured.chunks(MANY) {
        found += read(keys).await;
    }
    100.0 * found as f64 / measured.len() as f64
}

async fn of_map(get: impl Fn(u32) -> bool, insert: impl Fn(u32)) -> f64 {
    ratio(async |keys| {
        let found = keys.iter().filter(|key| {
            let is_there = get(**key);
            if !is_there {
                insert(**key);
            }
            is_there
        });
        found.count()
    })
    .await
}

async fn cache(store: L1Store) -> Cache<u32, u32> {
    let larder = Larder::builder()
        .l1_store(store)
        .l1_entries(CAPACITY.into())
        .build()
        .await
        .unwrap();
    larder.cache("user_profile").unwrap()
}

/// Reads and inserts one by one.
async fn by_hand(store: L1Store) -> f64 {
    let cache = cache(store).await;
    ratio(async |keys| {
        let mut found = 0;
        for key in keys {
            match cache.get(*key).await.unwrap() {
                Some(_) => found += 1,
                None => cache.insert(*key, *key).await.unwrap(),
            }
        }
        found
    })
    .await
}

/// Reads that load.
async fn loading(store: L1Store) -> f64 {
    let cache = cache(store).await;
    ratio(async |keys| {
        let before = cache.stats().loads;
        for key in keys.iter().copied() {
            cache
                .get_or_load(key, move || async move { Ok::<_, Infallible>(key) })
                .await
                .unwrap();
        }
        keys.len() - usize::try_from(cache.stats().loads - before).unwrap()
    })
    .await
}

/// Reads of many keys at once.
async fn many(store: L1Store) -> f64 {
    let cache = cache(store).await;
    ratio(async |keys| {
        let values = cache.get_many(keys).await.unwrap();
        let (found, missing): (Vec<u32>, _) =
            keys.iter().partition(|key| values.contains_key(*key));
        for key in missing {
            cache.insert(key, key).await.unwrap();
        }
        found.len()
    })
    .await
}

async fn assert_no_worse_than(map: f64, store: L1Store) {
    for (how, of_larder) in [
        ("by hand", by_hand(store).await),
        ("loading", loading(store).await),
        ("many", many(store).await),
    ] {
        assert!(
            of_larder > map - 1.0,
            "{how}: {of_larder:.2} %, the map alone: {map:.2} %"
        );
    }
}

#[tokio::test]
async fn hit_ratio_is_that_of_moka() {
    let moka = moka::sync::Cache::new(CAPACITY.into());
    let map = of_map(|key| moka.get(&key).is_some(), |key| moka.insert(key, key)).await;
    assert_no_worse_than(map, L1Store::Moka).await;
}

#[tokio::test]
async fn hit_ratio_is_that_of_quick_cache() {
    let quick = quick_cache::sync::Cache::new(CAPACITY.into());
    let map = of_map(
        |key| quick.get(&key).is_some(),
        |key| quick.insert(key, key),
    )
    .await;
    assert_no_worse_than(map, L1Store::Quick).await;
}
