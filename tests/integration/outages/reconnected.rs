//! A lane that is back in the middle of an operation which has found it away.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use futures_util::future::BoxFuture;
use larder_core::MemoryRemote;

use crate::support::{
    aging::Aging,
    calls::{Items, get, load, value},
    gated::{Call, Gated, When},
    policy::policy,
};

/// A process whose connection is cut by hand and whose calls have gates, and another process.
struct Pair {
    remote: Arc<MemoryRemote>,
    store: Arc<Gated>,
    one: Items,
    other: Items,
}

impl Pair {
    async fn new() -> Self {
        let world = Aging::new();
        let remote = Arc::new(world.server.connect());
        let store = Gated::new(remote.clone());
        let one = world.cache_on(store.clone(), &policy()).await;
        let other = world.cache(&policy()).await;
        Self {
            remote,
            store,
            one,
            other,
        }
    }

    /// Runs an operation of the process while it is cut off, and connects it again once this call
    /// has failed and before the operation is told so.
    async fn connect_after_failed(&self, call: Call, operate: Operate) {
        self.remote.disconnect();
        let failed = self.store.gate(call, When::After);
        let operation = tokio::spawn(operate(self.one.clone()));
        failed.reached().await;
        self.remote.reconnect();
        failed.open();
        operation.await.unwrap();
    }
}

/// An operation on `k` that ends with the value `old`.
type Operate = fn(Items) -> BoxFuture<'static, ()>;

fn read(cache: Items) -> BoxFuture<'static, ()> {
    Box::pin(async move { assert_eq!(load(&cache, "k", "old").await, "old") })
}

fn read_many(cache: Items) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let loader = |keys: Vec<String>| async move {
            let found = keys.into_iter().map(|key| (key, "old".to_owned()));
            Ok::<HashMap<_, _>, Infallible>(found.collect())
        };
        let keys = ["k".to_owned()];
        let found = cache.get_or_load_many(&keys, loader).await.unwrap();
        assert_eq!(*found["k"], "old");
    })
}

fn refresh(cache: Items) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let loaded = cache.refresh("k", || value("old")).await.unwrap();
        assert_eq!(*loaded, "old");
    })
}

fn write_through(cache: Items) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let written = cache.write_through("k", || value("old")).await.unwrap();
        assert_eq!(*written, "old");
    })
}

fn insert(cache: Items) -> BoxFuture<'static, ()> {
    Box::pin(async move { cache.insert("k", "old".to_owned()).await.unwrap() })
}

/// The operations, each with the first call in which it finds L2 away.
const READS: [(Call, Operate); 3] = [
    (Call::Get, read),
    (Call::GetMany, read_many),
    (Call::Claim, refresh),
];
const WRITES: [(Call, Operate); 2] = [
    (Call::BeginWrite, write_through),
    (Call::BeginWrite, insert),
];

/// P31 kept-only-while-away: a load that found L2 away keeps nothing once the lane is back, because
/// no push would tell of a write elsewhere.
#[tokio::test]
async fn value_loaded_after_its_lane_is_back_from_an_outage_is_not_kept() {
    for (call, operate) in READS {
        let pair = Pair::new().await;
        pair.connect_after_failed(call, operate).await;
        pair.other.insert("k", "new".to_owned()).await.unwrap();
        let served = get(&pair.one, "k").await;
        assert_eq!(served.as_deref(), Some("new"), "after a failed {call:?}");
    }
}

/// P31 kept-only-while-away: as with a load.
#[tokio::test]
async fn value_written_after_its_lane_is_back_from_an_outage_is_not_kept() {
    for (n, (call, operate)) in WRITES.into_iter().enumerate() {
        let pair = Pair::new().await;
        pair.connect_after_failed(call, operate).await;
        pair.other.insert("k", "new".to_owned()).await.unwrap();
        let served = get(&pair.one, "k").await;
        assert_eq!(served.as_deref(), Some("new"), "write {n}");
    }
}

/// P31 kept-only-while-away: a value of an outage is kept during it, and no longer.
#[tokio::test]
async fn value_loaded_or_written_in_an_outage_is_kept_until_its_lane_is_back() {
    for (call, operate) in READS.into_iter().chain(WRITES) {
        let pair = Pair::new().await;
        pair.remote.disconnect();
        operate(pair.one.clone()).await;
        let kept = get(&pair.one, "k").await;
        assert_eq!(kept.as_deref(), Some("old"), "{call:?}");
        pair.remote.reconnect();
        assert_eq!(get(&pair.one, "k").await, None, "{call:?}");
    }
}
