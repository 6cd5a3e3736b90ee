//! Calls with many keys, and what they found.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use larder::Error;
use tokio::{task::JoinHandle, time::Instant};

use super::{
    calls::Numbers,
    database::{Database, name},
    wait::BOUND,
};

pub(crate) type Many = Result<HashMap<u64, Arc<String>>, Error>;

pub(crate) fn set(keys: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    keys.into_iter().collect()
}

pub(crate) async fn load_many(cache: &Numbers, keys: &[u64], database: &Database) -> Many {
    let database = database.clone();
    cache
        .get_or_load_many(keys, |keys| database.find(keys))
        .await
}

pub(crate) fn start_many(cache: &Numbers, keys: &[u64], database: &Database) -> JoinHandle<Many> {
    let (cache, keys, database) = (cache.clone(), keys.to_vec(), database.clone());
    tokio::spawn(async move { load_many(&cache, &keys, &database).await })
}

pub(crate) async fn get_one(cache: &Numbers, key: u64) -> Option<String> {
    cache.get(key).await.unwrap().map(|value| (*value).clone())
}

/// Loads these keys, and finds the expected ones of them.
pub(crate) async fn all_found(
    cache: &Numbers,
    keys: &[u64],
    database: &Database,
    expected: impl IntoIterator<Item = u64>,
) {
    are(&load_many(cache, keys, database).await.unwrap(), expected);
}

/// Waits until a `get` says this.
pub(crate) async fn is_read(cache: &Numbers, key: u64, expected: Option<&str>) {
    let give_up = Instant::now() + BOUND;
    while get_one(cache, key).await.as_deref() != expected {
        assert!(Instant::now() < give_up, "{key} is not {expected:?}");
        tokio::task::yield_now().await;
    }
}

pub(crate) fn are(found: &HashMap<u64, Arc<String>>, keys: impl IntoIterator<Item = u64>) {
    let names = found
        .iter()
        .map(|(key, value)| (*key, (**value).clone()))
        .collect::<HashMap<_, _>>();
    assert_eq!(
        names,
        keys.into_iter().map(|key| (key, name(key))).collect()
    );
}
