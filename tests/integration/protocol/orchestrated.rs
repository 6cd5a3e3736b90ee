//! Races that other caches lose, each in an order that the test decides, many times over, on a
//! server that tracks and on one that refuses to.
//!
//! `LARDER_RACE_ROUNDS` says how often each is run.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use larder::{Error, Loaded};
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::{Direction, Gate};

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load, slow_tagged_load},
    gated::{Call, When},
    policy::builder,
    redis::config,
    stage::{Database, Process, Stage},
    wait::holds,
    world::{World, cache_of},
};

/// Runs each race on both kinds of server.
macro_rules! races {
    ($($name:ident)*) => {
        mod on_a_server_that_tracks {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stage = super::Stage::new(super::World::new().await).await;
                for round in 0..super::rounds() {
                    super::$name(&stage, &format!("r{round}")).await;
                }
            })*
        }
        mod on_a_server_that_refuses_tracking {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let stage = super::Stage::new(super::World::without_tracking().await).await;
                for round in 0..super::rounds() {
                    super::$name(&stage, &format!("r{round}")).await;
                }
            })*
        }
    };
}

races! {
    key_deleted_during_its_load_is_cached_nowhere
    late_first_loader_of_two_is_refused
    write_through_beats_a_slow_reader
    writers_whose_database_writes_and_returns_are_in_opposite_order_leave_the_last_value
    writer_that_fails_after_the_database_changed_leaves_no_old_value
    reply_held_back_while_another_process_writes_is_not_kept
    invalidation_during_promotion_leaves_no_old_value
    tag_removed_during_a_load_is_cached_nowhere
    tag_removed_during_a_load_in_the_background_is_cached_nowhere
    policy_cleared_during_a_load_is_cached_nowhere
    policy_cleared_during_a_load_in_the_background_is_cached_nowhere
    policy_of_instant_clears_cleared_during_a_load_is_cached_nowhere
    clocks_that_differ_by_a_quarter_of_an_hour_change_nothing
}

fn rounds() -> usize {
    std::env::var("LARDER_RACE_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(10)
}

/// P1 stamp-before-read, P3 clean-lease-commits, P5 invalidation-marks-writers: in the same
/// process, and in the other one.
async fn key_deleted_during_its_load_is_cached_nowhere(stage: &Stage, round: &str) {
    for (n, deleter) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let loading = slow_load(&stage.one.items, &key, "old", &gate);
        gate.reached().await;
        deleter.items.invalidate(key.as_str()).await.unwrap();
        gate.open();
        let served = loading.await.unwrap().unwrap();
        assert_eq!(
            *served, "old",
            "P16 only-for-earlier-callers: its caller came before the deletion"
        );
        stage.everybody_reads(&key, None).await;
    }
}

/// P3 clean-lease-commits: the first of two loads ends last, and must not replace what the second
/// has stored.
async fn late_first_loader_of_two_is_refused(stage: &Stage, round: &str) {
    for (n, second) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let late = slow_load(&stage.one.impatient, &key, "old", &gate);
        gate.reached().await;
        stage
            .other
            .impatient
            .invalidate(key.as_str())
            .await
            .unwrap();
        if n == 0 {
            // The same process starts a second load only when it has heard of the deletion, and has
            // waited for the first as long as the policy says.
            stage.one.impatient.invalidate(key.as_str()).await.unwrap();
        }
        assert_eq!(load(&second.impatient, &key, "new").await, "new");
        gate.open();
        late.await.unwrap().unwrap();
        for process in stage.actors() {
            gets(&process.impatient, &key, Some("new")).await;
        }
    }
}

/// P6 one-writer-first: the reader has read the database before the write, and ends after it.
async fn write_through_beats_a_slow_reader(stage: &Stage, round: &str) {
    for (n, writer) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let reading = slow_load(&stage.one.items, &key, "old", &gate);
        gate.reached().await;
        writer
            .items
            .write_through(key.as_str(), || async {
                Ok::<_, io::Error>("new".to_owned())
            })
            .await
            .unwrap();
        gate.open();
        reading.await.unwrap().unwrap();
        stage.everybody_reads(&key, Some("new")).await;
    }
}

/// P6 one-writer-first, P15 writer-ends-by-compare: with leases the second writer waits. Without L2
/// they overlap, and neither leaves what the database no longer holds.
async fn writers_whose_database_writes_and_returns_are_in_opposite_order_leave_the_last_value(
    stage: &Stage,
    round: &str,
) {
    let write = |cache: &Items, key: &str, database: &Database, value: &str, gate: &Gate| {
        let (cache, key, value) = (cache.clone(), key.to_owned(), value.to_owned());
        let (database, gate) = (database.clone(), gate.clone());
        tokio::spawn(async move {
            let writer = || async move {
                let written = database.write(&value);
                gate.pass().await;
                Ok::<_, io::Error>(written)
            };
            cache.write_through(key, writer).await
        })
    };
    for (n, second) in stage.actors().into_iter().enumerate() {
        let (key, gate, database) = (format!("{round}:{n}"), Gate::new(), Database::default());
        let first = write(&stage.one.items, &key, &database, "first", &gate);
        gate.reached().await;
        let busy = second.store.gate(Call::BeginWrite, When::After);
        let second = write(&second.items, &key, &database, "second", &Gate::opened());
        busy.reached().await;
        busy.open();
        gate.open();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        stage.everybody_reads(&key, Some(&database.read())).await;
    }
    let alone: Items = cache_of(builder()).await;
    let (gate, database) = (Gate::new(), Database::default());
    let first = write(&alone, round, &database, "first", &gate);
    gate.reached().await;
    write(&alone, round, &database, "second", &Gate::opened())
        .await
        .unwrap()
        .unwrap();
    gate.open();
    first.await.unwrap().unwrap();
    let kept = get(&alone, round).await;
    assert!(kept.is_none_or(|kept| kept == database.read()));
}

/// P18 failed-write-invalidates: a failed write can have reached the database.
async fn writer_that_fails_after_the_database_changed_leaves_no_old_value(
    stage: &Stage,
    round: &str,
) {
    for (n, writer) in stage.actors().into_iter().enumerate() {
        let (key, database) = (format!("{round}:{n}"), Database::holding("old"));
        for process in stage.actors() {
            assert_eq!(load(&process.items, &key, "old").await, "old");
        }
        let in_writer = database.clone();
        let panics = round == "r0"; // once: a panic prints its backtrace
        let failing = move || async move {
            in_writer.write("new");
            assert!(!panics, "the writer panics on purpose");
            Err::<String, _>(io::Error::other("the connection broke after the commit"))
        };
        let failed = writer.items.write_through(key.as_str(), failing).await;
        match panics {
            true => assert!(matches!(failed, Err(Error::Panicked { .. })), "{failed:?}"),
            false => assert!(matches!(failed, Err(Error::Write { .. })), "{failed:?}"),
        }
        stage.everybody_reads(&key, None).await;
        assert_eq!(
            load(&stage.other.items, &key, &database.read()).await,
            "new"
        );
        stage.everybody_reads(&key, Some("new")).await;
    }
}

/// P1 stamp-before-read, P17 pushes-before-replies: L2 has answered before the write; the answer is
/// handled after the write's push.
async fn reply_held_back_while_another_process_writes_is_not_kept(stage: &Stage, round: &str) {
    for (n, (reader, writer)) in [(&stage.one, &stage.other), (&stage.other, &stage.one)]
        .into_iter()
        .enumerate()
    {
        let key = format!("{round}:{n}");
        load(&writer.items, &key, "old").await;
        let (gate, heard) = (
            reader.store.gate(Call::Get, When::After),
            reader.larder.stats().pushes,
        );
        let reading = tokio::spawn({
            let (items, key) = (reader.items.clone(), key.clone());
            async move { get(&items, &key).await }
        });
        gate.reached().await;
        writer
            .items
            .insert(key.as_str(), "new".to_owned())
            .await
            .unwrap();
        reader.hears(heard).await;
        gate.open();
        assert_eq!(
            reading.await.unwrap().as_deref(),
            Some("old"),
            "it came before the write"
        );
        stage.everybody_reads(&key, Some("new")).await;
    }
}

/// P1 stamp-before-read, P2 only-current-is-served: the value is on its way from L2 to L1.
async fn invalidation_during_promotion_leaves_no_old_value(stage: &Stage, round: &str) {
    for (n, invalidator) in stage.actors().into_iter().enumerate() {
        let key = format!("{round}:{n}");
        load(&stage.other.items, &key, "old").await;
        let (gate, heard) = (
            stage.one.store.gate(Call::Get, When::After),
            stage.one.larder.stats().pushes,
        );
        let promoting = tokio::spawn({
            let (items, key) = (stage.one.items.clone(), key.clone());
            async move { get(&items, &key).await }
        });
        gate.reached().await;
        invalidator.items.invalidate(key.as_str()).await.unwrap();
        if n == 1 {
            stage.one.hears(heard).await;
        }
        gate.open();
        promoting.await.unwrap();
        stage.everybody_reads(&key, None).await;
    }
}

/// P22 epoch-before-load, P23 tags-pinned-before-commit.
async fn tag_removed_during_a_load_is_cached_nowhere(stage: &Stage, round: &str) {
    for (n, remover) in stage.actors().into_iter().enumerate() {
        let (key, tag, gate) = (format!("{round}:{n}"), format!("{round}:{n}"), Gate::new());
        let loading = slow_tagged_load(&stage.one.items, &key, "old", &tag, &gate);
        gate.reached().await;
        remover.larder.invalidate_tag(&tag).await.unwrap();
        gate.open();
        loading.await.unwrap().unwrap();
        for process in stage.actors() {
            gets(&process.items, &key, None).await;
        }
        assert_eq!(load_tagged(&remover.items, &key, "new", &tag).await, "new");
        for process in stage.actors() {
            gets(&process.items, &key, Some("new")).await;
        }
    }
}

/// A load that goes on for another caller when the one who started it has gone. If the second
/// caller came too late for what the first one loads, it loads `new`.
async fn in_the_background(
    process: &Process,
    key: &str,
    tag: Option<&str>,
    gate: &Gate,
) -> tokio::task::JoinHandle<Arc<String>> {
    let start = |loaded: &str| {
        let (items, key, gate) = (process.items.clone(), key.to_owned(), gate.clone());
        let loaded = Loaded::new(loaded.to_owned());
        let loaded = tag.into_iter().fold(loaded, |loaded, tag| loaded.tag(tag));
        let loader = move || async move {
            gate.pass().await;
            Ok::<_, Infallible>(loaded)
        };
        let mut call = Box::pin(async move { items.get_or_load(key, loader).await.unwrap() });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending(), "it waits");
        call
    };
    let leader = start("old");
    let waiter = tokio::spawn(start("new"));
    drop(leader);
    gate.reached().await;
    waiter
}

async fn tag_removed_during_a_load_in_the_background_is_cached_nowhere(stage: &Stage, round: &str) {
    for (n, remover) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let loading = in_the_background(&stage.one, &key, Some(&key), &gate).await;
        remover.larder.invalidate_tag(&key).await.unwrap();
        gate.open();
        loading.await.unwrap();
        stage.nobody_reads_the_old(&key).await;
    }
}

/// P25 clear-leaves-nothing.
async fn policy_cleared_during_a_load_is_cached_nowhere(stage: &Stage, round: &str) {
    for (n, clearer) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let loading = slow_load(&stage.one.items, &key, "old", &gate);
        gate.reached().await;
        clearer.items.clear().await.unwrap();
        gate.open();
        loading.await.unwrap().unwrap();
        stage.everybody_reads(&key, None).await;
    }
}

async fn policy_cleared_during_a_load_in_the_background_is_cached_nowhere(
    stage: &Stage,
    round: &str,
) {
    for (n, clearer) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let loading = in_the_background(&stage.one, &key, None, &gate).await;
        clearer.larder.clear().await.unwrap();
        gate.open();
        loading.await.unwrap();
        stage.nobody_reads_the_old(&key).await;
    }
}

async fn policy_of_instant_clears_cleared_during_a_load_is_cached_nowhere(
    stage: &Stage,
    round: &str,
) {
    for (n, clearer) in stage.actors().into_iter().enumerate() {
        let (key, gate) = (format!("{round}:{n}"), Gate::new());
        let loading = slow_load(&stage.one.instant, &key, "old", &gate);
        gate.reached().await;
        clearer.instant.clear().await.unwrap();
        gate.open();
        loading.await.unwrap().unwrap();
        for process in stage.actors() {
            gets(&process.instant, &key, None).await;
        }
    }
}

/// P20 l1-ends-with-l2, P22 epoch-before-load: no clock of any host takes part.
async fn clocks_that_differ_by_a_quarter_of_an_hour_change_nothing(stage: &Stage, round: &str) {
    if round == "r0" {
        stage.other.hand.advance(Duration::from_secs(15 * 60));
    }
    for (n, (here, there)) in [(&stage.one, &stage.other), (&stage.other, &stage.one)]
        .into_iter()
        .enumerate()
    {
        let (plain, tagged) = (format!("{round}:{n}:plain"), format!("{round}:{n}:tagged"));
        load(&here.items, &plain, "v").await;
        load_tagged(&here.items, &tagged, "v", &tagged).await;
        for key in [&plain, &tagged] {
            assert_eq!(
                get(&there.items, key).await.as_deref(),
                Some("v"),
                "the other's clock does not end it"
            );
        }
        there.larder.invalidate_tag(&tagged).await.unwrap();
        there
            .items
            .insert(plain.as_str(), "new".to_owned())
            .await
            .unwrap();
        gets(&here.items, &tagged, None).await;
        gets(&here.items, &plain, Some("new")).await;
        assert_eq!(
            load_tagged(&here.items, &tagged, "new", &tagged).await,
            "new"
        );
        gets(&there.items, &tagged, Some("new")).await;
        assert_eq!(
            here.items.stats().refused,
            0,
            "no load is refused needlessly"
        );
    }
}

/// P10 loss-told-before-successor: the push is on its way when its connection dies.
#[tokio::test(flavor = "multi_thread")]
async fn push_lost_with_its_connection_leaves_no_old_value() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let options = config(proxy.url())
        .command_timeout(Duration::from_secs(20))
        .ping_interval(Duration::from_secs(20));
    let store = Arc::new(RedisStore::connect(options).await.unwrap());
    let reader: Items = cache_of(builder().remote_store(store.clone())).await;
    let writer = world.items().await;
    let all = |state| LaneIndex::all(store.lanes()).all(|lane| store.lane_state(lane) == state);
    for round in 0..rounds() {
        let (key, new) = (format!("r{round}"), format!("new {round}"));
        load(&writer, &key, "old").await;
        gets(&reader, &key, Some("old")).await;
        proxy.stall(Direction::ToClient, true);
        writer.insert(key.as_str(), new.clone()).await.unwrap();
        assert_eq!(
            get(&reader, &key).await.as_deref(),
            Some("old"),
            "the push has not come"
        );
        proxy.refuse(true);
        proxy.cut();
        holds("the loss is noticed", || all(LaneState::Down)).await;
        assert_eq!(
            load(&reader, &key, "loaded").await,
            "loaded",
            "nothing from before is served"
        );
        proxy.refuse(false);
        proxy.stall(Direction::ToClient, false);
        gets(&reader, &key, Some(&new)).await;
        holds("it is back", || all(LaneState::Tracking)).await;
    }
}
