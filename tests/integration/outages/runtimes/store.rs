//! The store by itself, between runtimes.

use std::{future::pending, sync::Arc};

use futures_util::FutureExt;
use larder::{BreakerState, StoreError};
use larder_core::{Invalidated, LaneIndex, LaneState, Lanes, ValueStore};
use larder_redis::{Coherence, RedisStore};
use larder_testkit::Direction;

use super::{Outside, in_both_kinds, inside, many_threads, one_thread, patient};
use crate::support::{
    store::{are, key},
    wait::{holds, start, woken},
    world::World,
};

/// P32 runtime-end-is-loss: the store says so at once.
#[test]
fn store_is_down_between_two_runtimes_and_back_with_the_first_call() {
    let outside = Outside::new();
    in_both_kinds(|runtime| {
        let first = runtime();
        let connecting = RedisStore::connect(patient(outside.url()));
        let store = first.block_on(connecting).unwrap();
        assert!(are(&store, LaneState::Tracking));
        drop(first);
        assert!(are(&store, LaneState::Down));
        assert_eq!(store.stats().breaker, BreakerState::Open);
        assert_eq!(store.stats().lanes_lost, 2);
        // Nobody could drive a connection.
        let read = store.get("k").now_or_never().expect("it waits");
        assert!(
            matches!(read, Err(StoreError::Unreachable { .. })),
            "{read:?}"
        );
        let next = runtime();
        next.block_on(store.get("k")).unwrap();
        assert!(are(&store, LaneState::Tracking));
        assert_eq!(store.stats().breaker, BreakerState::Closed);
    });
}

/// P32 runtime-end-is-loss: the next runtime may end, too, before it has connected.
#[test]
fn call_that_waits_for_a_runtime_that_ends_goes_on_in_its_own() {
    let outside = Outside::new();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    let connecting = RedisStore::connect(patient(proxy.url()));
    let store = Arc::new(one_thread().block_on(connecting).unwrap());
    let reads = || {
        let store = store.clone();
        start(async move { store.get("k").await })
    };
    proxy.stall(Direction::ToServer, true);
    let (second, left) = (many_threads(), one_thread());
    let _waking = inside(&second, reads);
    let waiting = inside(&left, reads);
    drop(second);
    proxy.stall(Direction::ToServer, false);
    left.block_on(woken(waiting)).unwrap().unwrap();
}

#[test]
fn store_that_is_made_outside_of_any_runtime_connects_with_its_first_call() {
    let outside = Outside::new();
    let store = RedisStore::connect_lazy(patient(outside.url())).unwrap();
    assert!(store.get("k").now_or_never().unwrap().is_err());
    one_thread().block_on(store.get("k")).unwrap();
}

/// A closed store has no next runtime.
#[test]
fn closed_store_is_not_connected_again() {
    let outside = Outside::new();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    for closes_first in [true, false] {
        let first = one_thread();
        let store = first
            .block_on(RedisStore::connect(patient(proxy.url())))
            .unwrap();
        if closes_first {
            store.close();
        }
        drop(first);
        store.close();
        let before = proxy.connections();
        assert!(one_thread().block_on(store.get("k")).is_err());
        assert_eq!(proxy.connections(), before);
    }
}

/// A destructor that runs while its runtime shuts down cannot be helped, and harms nobody.
#[test]
fn call_in_a_runtime_that_shuts_down_fails_at_once() {
    struct Reads(Arc<RedisStore>);

    impl Drop for Reads {
        fn drop(&mut self) {
            let read = self.0.get("k").now_or_never();
            assert!(read.is_none_or(|read| read.is_err()));
        }
    }

    let outside = Outside::new();
    in_both_kinds(|runtime| {
        let first = runtime();
        let connecting = RedisStore::connect(patient(outside.url()));
        let store = Arc::new(first.block_on(connecting).unwrap());
        let reads = Reads(store.clone());
        first.block_on(async {
            tokio::spawn(async move {
                let _reads = reads;
                pending::<()>().await;
            });
            tokio::task::yield_now().await;
        });
        drop(first);
        runtime().block_on(store.get("k")).unwrap();
    });
}

/// P29 large-out-of-band: a connection belongs to the lane, and not to the caller who needed it
/// first.
#[test]
fn connection_for_large_values_outlives_the_runtime_of_its_first_caller() {
    let outside = Outside::new();
    let large = "x".repeat(100_000);
    let set = ["SET", "k", large.as_str()];
    outside
        .runtime
        .block_on(outside.world.server.command(&set))
        .unwrap();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    let home = many_threads();
    let store = home
        .block_on(RedisStore::connect(patient(proxy.url()).lanes(1)))
        .unwrap();
    let read = |runtime: tokio::runtime::Runtime| {
        let read = runtime.block_on(store.get("k")).unwrap();
        assert_eq!(read.map(|value| value.len()), Some(large.len()));
    };
    read(one_thread());
    let connections = proxy.connections();
    read(one_thread());
    assert_eq!(proxy.connections(), connections, "it was opened anew");
}

/// P26 scripts-publish: nobody is told by a subscription that has ended with its runtime.
#[test]
fn subscription_of_an_ended_runtime_is_not_believed_in_the_next_one() {
    let outside = Outside::of(World::without_tracking());
    in_both_kinds(|runtime| {
        let told = patient(outside.url()).coherence(Coherence::Channel);
        let first = runtime();
        let store = first.block_on(RedisStore::connect(told)).unwrap();
        assert!(are(&store, LaneState::Subscribed));
        drop(first);
        let acl = |rule| {
            let words = ["ACL", "SETUSER", "default", rule];
            outside
                .runtime
                .block_on(outside.world.server.command(&words))
                .unwrap();
        };
        acl("-subscribe");
        let next = runtime();
        next.block_on(async {
            store.get("k").await.unwrap();
            assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Untracked);
        });
        acl("+subscribe");
        next.block_on(holds("it is told again", || {
            are(&store, LaneState::Subscribed)
        }));
    });
}

/// P11 unsent-goes-first, P32 runtime-end-is-loss: also what was sent when the runtime ended.
#[test]
fn invalidation_whose_reply_ends_with_the_runtime_is_remembered() {
    let outside = Outside::new();
    let proxy = outside.runtime.block_on(outside.world.proxy());
    let set = ["SET", "item:k", "old"];
    outside
        .runtime
        .block_on(outside.world.server.command(&set))
        .unwrap();
    let (first, left) = (many_threads(), one_thread());
    let connecting = RedisStore::connect(patient(proxy.url()));
    let store = Arc::new(first.block_on(connecting).unwrap());
    proxy.stall(Direction::ToServer, true);
    left.block_on(async {
        let invalidating = start({
            let store = store.clone();
            async move { store.invalidate(&key("item", "k"), None).await }
        });
        tokio::task::yield_now().await;
        first.shutdown_background();
        let done = invalidating.await.unwrap().unwrap();
        assert_eq!(done, Invalidated::Deferred);
        proxy.stall(Direction::ToServer, false);
        holds("the store is asleep", || {
            store.stats().breaker == BreakerState::Open
        })
        .await;
        store.resume().await;
        holds("it is sent", || store.stats().unsent == 0).await;
    });
    assert_eq!(outside.l2("k"), None);
}
