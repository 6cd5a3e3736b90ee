//! A larder outlives the runtimes in which it is used: each ends what it drove, and the next call
//! goes on in its own runtime.

mod shared;
mod store;

use std::sync::OnceLock;

use futures_util::FutureExt;
use larder::{BreakerState, Error, Larder, LarderBuilder, RedisConfig};
use tokio::runtime::{Builder, Runtime};

use crate::support::{
    calls::{Items, get, gets, load},
    policy::builder,
    redis::config,
    wait::{BOUND, holds},
    world::{World, process_of},
};

/// Where the server runs, and another process, while runtimes of the tested larder come and go.
struct Outside {
    runtime: Runtime,
    world: World,
    elsewhere: Items,
}

impl Outside {
    fn new() -> Self {
        Self::of(World::new())
    }

    fn of(world: impl Future<Output = World>) -> Self {
        let runtime = many_threads();
        let (world, elsewhere) = runtime.block_on(async {
            let world = world.await;
            let elsewhere = world.items().await;
            (world, elsewhere)
        });
        Self {
            runtime,
            world,
            elsewhere,
        }
    }

    fn url(&self) -> String {
        self.world.server.url()
    }

    fn insert(&self, key: &str, value: &str) {
        let inserting = self.elsewhere.insert(key, value.to_owned());
        self.runtime.block_on(inserting).unwrap();
    }

    fn l2(&self, key: &str) -> Option<String> {
        self.runtime.block_on(self.world.l2(&format!("item:{key}")))
    }

    /// Waits until the other process reads this.
    fn reads(&self, key: &str, expected: Option<&str>) {
        self.runtime.block_on(gets(&self.elsewhere, key, expected));
    }
}

/// Options with which nothing fails because the machine is busy.
fn patient(url: impl Into<String>) -> RedisConfig {
    let config = config(url).connect_timeout(BOUND);
    config.command_timeout(BOUND)
}

/// Begins a process with these options.
fn at(url: impl Into<String>) -> LarderBuilder {
    builder().redis_config(patient(url))
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn many_threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Begins a call in a runtime that goes on with it.
fn inside<T>(runtime: &Runtime, begin: impl FnOnce() -> T) -> T {
    let _inside = runtime.enter();
    begin()
}

/// Runs a test with both kinds of runtimes.
fn in_both_kinds(test: impl Fn(fn() -> Runtime)) {
    test(one_thread);
    test(many_threads);
}

/// P32 runtime-end-is-loss: nothing tells this process of a change any more.
#[test]
fn value_that_changed_after_the_runtime_had_ended_is_seen_in_the_next_one() {
    let outside = Outside::new();
    in_both_kinds(|runtime| {
        let first = runtime();
        let (_larder, cache) = first.block_on(process_of(at(outside.url())));
        outside.insert("k", "old");
        first.block_on(gets(&cache, "k", Some("old")));
        drop(first);
        outside.insert("k", "new");
        // At once: the call waits until the store is connected.
        assert_eq!(runtime().block_on(get(&cache, "k")).as_deref(), Some("new"));
    });
}

/// P32 runtime-end-is-loss: also while no server can be asked.
#[test]
fn value_of_an_ended_runtime_is_not_served_while_redis_is_out_of_reach() {
    let outside = Outside::new();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    in_both_kinds(|runtime| {
        let first = runtime();
        let (larder, cache) = first.block_on(process_of(at(proxy.url())));
        first.block_on(async {
            load(&cache, "k", "old").await;
            assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
        });
        proxy.refuse(true);
        drop(first);
        assert_eq!(larder.stats().breaker, BreakerState::Open);
        assert!(format!("{larder:?}").contains("Down"), "{larder:?}");
        assert_eq!(runtime().block_on(get(&cache, "k")), None);
        proxy.refuse(false);
    });
}

#[test]
fn writes_and_invalidations_of_every_later_runtime_reach_redis() {
    let outside = Outside::new();
    in_both_kinds(|runtime| {
        let first = runtime();
        let (_larder, cache) = first.block_on(process_of(at(outside.url())));
        drop(first);
        for round in 0..3 {
            let value = format!("value {round}");
            runtime()
                .block_on(cache.insert("k", value.clone()))
                .unwrap();
            assert_eq!(outside.l2("k"), Some(format!("{value:?}")));
            outside.reads("k", Some(&value));
            runtime().block_on(cache.invalidate("k")).unwrap();
            assert_eq!(outside.l2("k"), None);
            outside.reads("k", None);
        }
    });
}

/// Several tests of a program share a larder in a `static`, each in a runtime of its own.
#[test]
fn larder_in_a_static_is_used_by_many_runtimes_at_once() {
    static LARDER: OnceLock<(Larder, Items)> = OnceLock::new();
    let outside = Outside::new();
    let building = process_of(at(outside.url()));
    let (_, cache) = LARDER.get_or_init(|| one_thread().block_on(building));
    let uses = |nth: usize| {
        for round in 0..5 {
            let (key, value) = (format!("k{nth}"), format!("value {round}"));
            one_thread().block_on(async {
                // Another runtime may have ended just now, and taken the connections along: then
                // the value is not kept, as in any outage.
                cache.insert(key.as_str(), value.clone()).await.unwrap();
                let found = get(cache, &key).await;
                assert!(
                    found.is_none() || found.as_ref() == Some(&value),
                    "{found:?}"
                );
            });
        }
    };
    std::thread::scope(|scope| {
        for nth in 0..8 {
            scope.spawn(move || uses(nth));
        }
    });
    for nth in 0..8 {
        let key = format!("k{nth}");
        one_thread()
            .block_on(cache.insert(key.as_str(), "last".to_owned()))
            .unwrap();
        outside.reads(&key, Some("last"));
    }
}

/// P11 unsent-goes-first: whichever runtime remembered it.
#[test]
fn invalidation_that_an_ended_runtime_could_not_send_is_sent_by_the_next_one() {
    let outside = Outside::new();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    in_both_kinds(|runtime| {
        let (larder, cache) = runtime().block_on(process_of(at(proxy.url())));
        for ends_with_close in [false, true] {
            outside.insert("k", "old");
            proxy.refuse(true);
            runtime().block_on(cache.invalidate("k")).unwrap();
            assert_eq!(larder.stats().unsent, 1);
            outside.reads("k", Some("old"));
            proxy.refuse(false);
            let next = runtime();
            if ends_with_close {
                next.block_on(larder.close(BOUND)).unwrap();
            } else {
                next.block_on(holds_sent(&larder, &cache));
            }
            outside.reads("k", None);
        }
    });
}

async fn holds_sent(larder: &Larder, cache: &Items) {
    get(cache, "any").await;
    holds("it is sent", || larder.stats().unsent == 0).await;
}

/// P32 runtime-end-is-loss: a runtime that lives on does not miss the one that has ended.
#[test]
fn pushes_reach_the_runtime_that_is_left() {
    let outside = Outside::new();
    in_both_kinds(|runtime| {
        let (first, left) = (many_threads(), runtime());
        let (_larder, cache) = first.block_on(process_of(at(outside.url())));
        outside.insert("k", "old");
        left.block_on(gets(&cache, "k", Some("old")));
        first.shutdown_background();
        for value in ["new", "newer", "newest"] {
            outside.insert("k", value);
            left.block_on(gets(&cache, "k", Some(value)));
        }
    });
}

#[test]
fn closed_larder_stays_closed_in_the_next_runtime() {
    let outside = Outside::new();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    in_both_kinds(|runtime| {
        let first = runtime();
        let (larder, cache) = first.block_on(process_of(at(proxy.url())));
        first.block_on(larder.close(BOUND)).unwrap();
        drop(first);
        let before = proxy.connections();
        runtime().block_on(async {
            assert!(matches!(cache.get("k").await, Err(Error::Closed)));
            assert!(matches!(cache.invalidate("k").await, Err(Error::Closed)));
            larder.close(BOUND).await.unwrap();
        });
        assert_eq!(proxy.connections(), before);
    });
}

#[test]
fn call_outside_of_any_runtime_is_an_error() {
    let outside = Outside::new();
    let first = one_thread();
    let (_larder, cache) = first.block_on(process_of(at(outside.url())));
    first.block_on(load(&cache, "k", "old"));
    drop(first);
    let read = cache.get("k").now_or_never();
    assert!(matches!(read, Some(Err(Error::NoRuntime))), "{read:?}");
    let invalidated = cache.invalidate("k").now_or_never();
    assert!(matches!(invalidated, Some(Err(Error::NoRuntime))));
    let found = one_thread().block_on(get(&cache, "k"));
    assert_eq!(found.as_deref(), Some("old"));
}
