//! Reads, loads and writes that callers in one runtime share with callers in another that ends,
//! and the work in the background.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use larder::{L1Store, Outbox, OutboxEntry, OutboxError};
use larder_testkit::Gate;

use super::{Outside, at, in_both_kinds, inside, many_threads, one_thread, patient};
use crate::support::{
    batch::set,
    calls::{Items, Numbers, get, is, load, slow_load, slow_write, start_load},
    database::{Database, name},
    gated::{Call, Gated, When},
    policy::{MINUTE, builder, builder_of, ms, policy},
    wait::{holds, start, woken},
    world::{cache_of, cache_on, local, process_of},
};

/// P32 runtime-end-is-loss: callers of other runtimes look again.
#[test]
fn look_that_ends_with_its_runtime_is_begun_anew_by_those_who_share_it() {
    let outside = Outside::new();
    outside.insert("k", "value");
    let (first, left) = (many_threads(), one_thread());
    // The store lives in neither of them.
    let (store, cache) = outside.runtime.block_on(async {
        let store = Gated::new(outside.world.store().await);
        (store.clone(), cache_on(store, &policy()).await)
    });
    let reads = || {
        let cache = cache.clone();
        start(async move { get(&cache, "k").await })
    };
    let gate = store.gate(Call::Get, When::Before);
    let _first_caller = inside(&first, reads);
    left.block_on(gate.reached());
    // It is late for that look, and leads the next one.
    let _second_caller = inside(&first, reads);
    left.block_on(async {
        let third_caller = reads(); // it shares that one
        first.shutdown_background();
        assert_eq!(third_caller.await.unwrap().as_deref(), Some("value"));
    });
}

/// P32 runtime-end-is-loss: callers of other runtimes load by themselves, and
/// P19 loads-end-with-callers: no lease of the load that was cut off is in their way.
#[test]
fn load_that_ends_with_its_runtime_is_begun_anew_by_those_who_wait_for_it() {
    let outside = Outside::new();
    let policies = [policy().lease(MINUTE).max_wait(MINUTE)];
    // The store's home is the runtime that ends, or neither of them.
    for (is_outside, key) in [(false, "k1"), (true, "k2")] {
        let (first, left) = (many_threads(), one_thread());
        let home = if is_outside { &outside.runtime } else { &first };
        let process = builder_of(&policies).redis_config(patient(outside.url()));
        let cache: Items = home.block_on(cache_of(process));
        let gate = Gate::new();
        let _first_caller = inside(&first, || slow_load(&cache, key, "never", &gate));
        left.block_on(async {
            gate.reached().await;
            let second_caller = start_load(&cache, key, "loaded");
            first.shutdown_background();
            let loaded = woken(second_caller).await.unwrap();
            assert_eq!(**loaded.as_ref().unwrap(), "loaded");
        });
    }
}

/// P32 runtime-end-is-loss: also callers whose keys are loaded together.
#[test]
fn batch_that_ends_with_its_runtime_is_loaded_anew_for_the_others() {
    let (first, left) = (many_threads(), one_thread());
    let (cache, database): (Numbers, _) = (left.block_on(cache_of(builder())), Database::default());
    // Only the end of the runtime closes the batch.
    let batches = cache
        .loading_many(database.clone(), Database::find)
        .window(MINUTE);
    let reads = |key: u64| {
        let batches = batches.clone();
        async move { batches.get(key).await }
    };
    let wants = async |loads| holds("it wants its key", || cache.stats().loads == loads).await;
    let _first_caller = first.spawn(reads(0));
    left.block_on(async {
        wants(1).await;
        let second_caller = tokio::spawn(reads(2));
        wants(2).await;
        first.shutdown_background();
        assert_eq!(**second_caller.await.unwrap().as_ref().unwrap(), name(2));
    });
    assert_eq!(database.asked(), [set([2])]);
}

/// P18 failed-write-invalidates: a write that is cut off may have reached the database.
#[test]
fn write_that_ends_with_its_runtime_leaves_no_older_value() {
    let left = one_thread();
    let cache: Items = left.block_on(local(&policy()));
    in_both_kinds(|_| {
        let (first, gate) = (many_threads(), Gate::new());
        let _writing = inside(&first, || slow_write(&cache, "new", &gate));
        left.block_on(async {
            gate.reached().await;
            // A reader comes before the database has the new value.
            load(&cache, "k", "old").await;
        });
        drop(first);
        left.block_on(async {
            assert_eq!(load(&cache, "k", "new").await, "new");
            cache.invalidate("k").await.unwrap();
        });
    });
}

/// An outbox in memory.
#[derive(Default)]
struct Memory(Mutex<Vec<OutboxEntry>>);

impl Memory {
    fn record(&self, id: i64, key: &str) {
        let key = key.to_owned();
        self.0.lock().unwrap().push(OutboxEntry { id, key });
    }
}

#[async_trait]
impl Outbox for Memory {
    async fn unconfirmed(&self, after: i64, _: usize) -> Result<Vec<OutboxEntry>, OutboxError> {
        let entries = self.0.lock().unwrap();
        Ok(entries
            .iter()
            .filter(|entry| entry.id > after)
            .cloned()
            .collect())
    }

    async fn confirm(&self, ids: &[i64]) -> Result<(), OutboxError> {
        self.0
            .lock()
            .unwrap()
            .retain(|entry| !ids.contains(&entry.id));
        Ok(())
    }
}

/// P32 runtime-end-is-loss: what a larder does by itself goes on.
#[test]
fn outbox_is_drained_in_the_next_runtime() {
    let outside = Outside::new();
    let outbox = Arc::new(Memory::default());
    in_both_kinds(|runtime| {
        let process = at(outside.url());
        let process = process.outbox(outbox.clone()).outbox_interval(ms(5));
        let (larder, cache) = runtime().block_on(process_of(process));
        let drained = larder.stats().outbox_drained;
        outside.insert("k", "old");
        outbox.record(1, "item:k");
        runtime().block_on(async {
            get(&cache, "other").await;
            holds("it is drained", || larder.stats().outbox_drained > drained).await;
        });
        outside.reads("k", None);
        outside.insert("k", "old");
        outbox.record(2, "item:k");
        // Nobody asked the store before.
        assert_eq!(
            runtime().block_on(larder.drain_outbox(&*outbox)).unwrap(),
            1
        );
        outside.reads("k", None);
    });
}

#[test]
fn housekeeping_goes_on_in_the_next_runtime() {
    in_both_kinds(|runtime| {
        let (clock, hand) = larder::Clock::manual();
        let first = runtime();
        let process = builder_of(&[policy()])
            .clock(clock)
            .l1_store(L1Store::Quick);
        let (larder, cache) = first.block_on(process_of(process));
        first.block_on(load(&cache, "k", "value"));
        drop(first);
        hand.advance(60 * MINUTE);
        let entries = || format!("{larder:?}").contains("entries: 0");
        runtime().block_on(async {
            assert!(!entries(), "{larder:?}");
            get(&cache, "other").await;
            holds("the expired entry is gone", entries).await;
        });
    });
}

/// A hit begins a reload ahead of time in its own runtime, and the store is connected there.
#[test]
fn value_that_is_due_is_reloaded_in_the_next_runtime() {
    let outside = Outside::new();
    let policies = [policy().refresh_ahead(0.5)];
    let soon = ["PEXPIRE", "item:k", "60000"]; // of ten minutes
    in_both_kinds(|runtime| {
        let process = builder_of(&policies).redis_config(patient(outside.url()));
        let cache: Items = runtime().block_on(cache_of(process));
        outside.insert("k", "old");
        outside
            .runtime
            .block_on(outside.world.server.command(&soon))
            .unwrap();
        runtime().block_on(async {
            assert_eq!(load(&cache, "k", "new").await, "old");
            is(&cache, "k", "new").await;
        });
    });
}
