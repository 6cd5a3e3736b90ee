//! A loading cache: the loader is given once, and keys that concurrent callers want one by one are
//! loaded together.

use std::time::Duration;

use futures_util::FutureExt;
use larder::{Error, LoadingCache};
use larder_testkit::Gate;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{
    calls::{Numbers, value},
    database::Database,
    policy::{MINUTE, builder, policy},
    wait::{BOUND, start},
    world::{World, cache_of},
};

/// No test waits for a window to end: it is over at once, or never.
const NEVER: Duration = Duration::from_secs(3600);

fn batches(cache: &Numbers, window: Duration, database: &Database) -> LoadingCache<u64, String> {
    cache
        .loading_many(database.clone(), Database::find)
        .window(window)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_wanted_within_a_window_are_one_load() {
    let world = World::new().await;
    let remembering = policy().negative_ttl(5 * MINUTE);
    let numbers = || world.cache_by::<u64>(&remembering);
    let (one, other, database) = (numbers().await, numbers().await, Database::default());
    let loading = batches(&one, Duration::from_millis(500), &database);
    let mut callers = JoinSet::new();
    for key in (0..100).chain(0..100) {
        let loading = loading.clone();
        callers.spawn(async move { (key, loading.find(key).await.unwrap()) });
    }
    for (key, value) in callers.join_all().await {
        assert_eq!(
            value.map(|value| (*value).clone()),
            (key % 2 == 0).then(|| format!("value {key}"))
        );
    }
    assert_eq!(database.asked(), [(0..100).collect()]);
    assert!(
        matches!(loading.get(1).await, Err(Error::Absent { .. })),
        "it is remembered"
    );
    assert_eq!(**other.get(42).await.unwrap().as_ref().unwrap(), "value 42");
}

#[tokio::test]
async fn hit_does_not_wait_for_the_window_and_a_full_batch_neither() {
    let cache: Numbers = cache_of(builder()).await;
    cache.get_or_load(0, || value("value 0")).await.unwrap();
    let database = Database::default();
    let loading = batches(&cache, NEVER, &database);
    assert_eq!(*loading.get(0).await.unwrap(), "value 0");
    let mut callers = JoinSet::new();
    for key in 1..=1000 {
        let loading = loading.clone();
        callers.spawn(async move { loading.find(key).await.unwrap() });
    }
    assert_eq!(callers.join_all().await.len(), 1000);
    assert_eq!(database.asked(), [(1..=1000).collect()]);
}

/// P19 loads-end-with-callers: a caller that is gone keeps nobody waiting, and is not loaded for.
#[tokio::test]
async fn caller_that_leaves_before_the_window_ends_is_not_loaded_for() {
    let cache: Numbers = cache_of(builder()).await;
    let (gate, window) = (Gate::new(), Duration::from_millis(100));
    let database = Database::gated(&gate);
    let loading = batches(&cache, window, &database);
    let call = |key| {
        let loading = loading.clone();
        start(async move { loading.get(key).await })
    };
    let (gone, waits) = (call(2), call(4));
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    gate.reached().await;
    gate.open();
    assert_eq!(*waits.await.unwrap().unwrap(), "value 4");
    assert_eq!(database.asked(), [[4].into()]);
}

/// A caller that is not polled keeps nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_is_not_polled_holds_up_no_other() {
    let world = World::new().await;
    let (cache, database) = (world.numbers().await, Database::default());
    let loading = batches(&cache, Duration::from_millis(1), &database);
    let mut idle = Box::pin(loading.get(2));
    assert!((&mut idle).now_or_never().is_none());
    let served = timeout(BOUND / 4, loading.get(4))
        .await
        .expect("it waits for the idle one");
    assert_eq!(*served.unwrap(), "value 4");
    assert_eq!(*idle.await.unwrap(), "value 2");
}

#[test]
fn call_without_a_runtime_is_refused() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cache = runtime.block_on(async { cache_of(builder()).await });
    let loading = batches(&cache, NEVER, &Database::default());
    let outside = loading.get(2).now_or_never().unwrap();
    assert!(matches!(outside, Err(Error::NoRuntime)), "{outside:?}");
}
