use std::{convert::Infallible, sync::Arc};

use larder::{Cache, Loaded};
use larder_testkit::Gate;
use tokio::{task::JoinHandle, time::Instant};

use super::wait::{BOUND, start};

/// A cache of texts by names, which most tests use.
pub(crate) type Items = Cache<String, String>;

/// A cache of texts by numbers.
pub(crate) type Numbers = Cache<u64, String>;

/// A cache of texts by a number and a name.
pub(crate) type Pairs = Cache<(u64, String), String>;

/// A loader that returns this at once.
pub(crate) fn value(
    value: &str,
) -> impl Future<Output = Result<String, Infallible>> + Send + use<> {
    std::future::ready(Ok(value.to_owned()))
}

pub(crate) async fn load(cache: &Items, key: &str, loaded: &str) -> String {
    let loaded = loaded.to_owned();
    let served = cache
        .get_or_load(key, move || value(&loaded))
        .await
        .unwrap();
    (*served).clone()
}

/// Starts a load that reads its value and then waits at the gate before it returns it.
pub(crate) fn slow_load(
    cache: &Items,
    key: &str,
    loaded: &str,
    gate: &Gate,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, key, loaded, gate) = (
        cache.clone(),
        key.to_owned(),
        loaded.to_owned(),
        gate.clone(),
    );
    tokio::spawn(async move {
        let loader = move || async move {
            gate.pass().await;
            Ok::<_, Infallible>(loaded)
        };
        cache.get_or_load(key, loader).await
    })
}

/// A load of a value with this tag.
pub(crate) async fn load_tagged(cache: &Items, key: &str, loaded: &str, tag: &str) -> String {
    let (loaded, tag) = (loaded.to_owned(), tag.to_owned());
    let loader = || async { Ok::<_, Infallible>(Loaded::new(loaded).tag(tag)) };
    (*cache.get_or_load(key, loader).await.unwrap()).clone()
}

/// Starts a load of a value with this tag, see [`slow_load`].
pub(crate) fn slow_tagged_load(
    cache: &Items,
    key: &str,
    loaded: &str,
    tag: &str,
    gate: &Gate,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, key, gate) = (cache.clone(), key.to_owned(), gate.clone());
    let (loaded, tag) = (loaded.to_owned(), tag.to_owned());
    tokio::spawn(async move {
        let loader = move || async move {
            gate.pass().await;
            Ok::<_, Infallible>(Loaded::new(loaded).tag(tag))
        };
        cache.get_or_load(key, loader).await
    })
}

pub(crate) async fn get(cache: &Items, key: &str) -> Option<String> {
    cache.get(key).await.unwrap().map(|value| (*value).clone())
}

/// Waits until a `get` says this.
pub(crate) async fn gets(cache: &Items, key: &str, expected: Option<&str>) {
    let give_up = Instant::now() + BOUND;
    loop {
        let got = get(cache, key).await;
        if got.as_deref() == expected {
            return;
        }
        assert!(
            Instant::now() < give_up,
            "{key} is {got:?}, not {expected:?}"
        );
        tokio::task::yield_now().await;
    }
}

/// Starts a `get_or_load`, see [`start`].
pub(crate) fn start_load(
    cache: &Items,
    key: &'static str,
    loaded: &str,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, loaded) = (cache.clone(), loaded.to_owned());
    start(async move { cache.get_or_load(key, move || value(&loaded)).await })
}

/// Starts a write-through that waits at the gate before it returns, as a slow database would.
pub(crate) fn slow_write(
    cache: &Items,
    written: &str,
    gate: &Gate,
) -> JoinHandle<Result<Arc<String>, larder::Error>> {
    let (cache, written, gate) = (cache.clone(), written.to_owned(), gate.clone());
    tokio::spawn(async move {
        let writer = || async move {
            gate.pass().await;
            Ok::<_, Infallible>(written)
        };
        cache.write_through("k", writer).await
    })
}

/// Waits until a `get` says this text.
pub(crate) async fn is(cache: &Items, key: &str, expected: &str) {
    gets(cache, key, Some(expected)).await;
}
