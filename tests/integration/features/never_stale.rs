//! Values that are too old to be served stale: invalidated, written over, gone from the database,
//! or kept while this process heard nothing.

use std::{convert::Infallible, sync::Arc, time::Duration};

use larder::{Error, Levels, Loaded};
use larder_core::{LaneIndex, Lanes};

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get, load_tagged},
    gated::{Call, Gated, When},
    policy::{MINUTE, soft, stale},
    wait::{holds, start},
    world::World,
};

/// P28 stale-only-while-current: neither while its reload runs nor when it fails, in the process
/// that invalidates and in another.
#[tokio::test(start_paused = true)]
async fn invalidated_value_is_never_served_as_stale() {
    for by_the_same in [true, false] {
        let world = Aging::new();
        let (one, other) = (world.cache(&soft()).await, world.cache(&soft()).await);
        let writer = if by_the_same { &one } else { &other };
        Source::open().read(&one, "k", "old").await.unwrap();
        world.advance(11);
        let source = Source::gated();
        let reading = {
            let (cache, source) = (one.clone(), source.clone());
            start(async move { source.fail(&cache, "k").await })
        };
        source.gate.reached().await;
        writer.invalidate("k").await.unwrap();
        source.gate.open();
        let served = reading.await.unwrap();
        assert!(
            matches!(served, Err(Error::Load { .. })),
            "the stale value was invalidated: {served:?}"
        );
        assert!(source.fail(&one, "k").await.is_err());
        assert_eq!(Source::open().read(&one, "k", "new").await.unwrap(), "new");
    }
}

/// P28 stale-only-while-current: the tag's removal counts as the key's does.
#[tokio::test(start_paused = true)]
async fn value_whose_tag_is_removed_is_never_served_as_stale() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let larder = world.larder_in(has_l2, &soft()).await;
        let cache: Items = larder.cache("item").unwrap();
        load_tagged(&cache, "k", "old", "t").await;
        world.advance(11);
        let source = Source::gated();
        let reading = {
            let (cache, source) = (cache.clone(), source.clone());
            start(async move { source.fail(&cache, "k").await })
        };
        source.gate.reached().await;
        larder.invalidate_tag("t").await.unwrap();
        source.gate.open();
        assert!(reading.await.unwrap().is_err());
    }
}

/// P28 stale-only-while-current: a caller that waits for a late load does not get what was
/// invalidated meanwhile: it goes on waiting.
#[tokio::test(start_paused = true)]
async fn value_invalidated_before_the_soft_timeout_makes_the_caller_wait() {
    let world = Aging::new();
    let cache = world.cache(&soft()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let source = Source::gated();
    let reading = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "k", "late").await })
    };
    source.gate.reached().await;
    cache.invalidate("k").await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    assert!(!reading.is_finished());
    source.gate.open();
    assert_eq!(reading.await.unwrap().unwrap(), "late");
    assert_eq!(
        get(&cache, "k").await,
        None,
        "the load began before the invalidation, so it is kept nowhere"
    );
}

/// P3 clean-lease-commits: a reload that overlaps with a write stores nothing, in L2 and without.
#[tokio::test]
async fn reload_that_overlaps_with_a_write_is_refused() {
    let world = Aging::new();
    let (one, other) = (world.cache(&stale()).await, world.cache(&stale()).await);
    for (reader, writer) in [(&one, &one), (&one, &other)] {
        writer.insert("k", "old".to_owned()).await.unwrap();
        world.advance(11);
        let source = Source::gated();
        assert_eq!(source.read(reader, "k", "late").await.unwrap(), "old");
        source.gate.reached().await;
        writer
            .write_through("k", || async { Ok::<_, Infallible>("written".to_owned()) })
            .await
            .unwrap();
        let refused = reader.stats().refused;
        source.gate.open();
        holds("it is refused", || reader.stats().refused == refused + 1).await;
        assert_eq!(get(reader, "k").await.as_deref(), Some("written"));
    }
    let local = world.local(&stale()).await;
    local.insert("k", "old".to_owned()).await.unwrap();
    world.advance(11);
    let source = Source::gated();
    assert_eq!(source.read(&local, "k", "late").await.unwrap(), "old");
    source.gate.reached().await;
    local
        .write_through("k", || async { Ok::<_, Infallible>("written".to_owned()) })
        .await
        .unwrap();
    source.gate.open();
    holds("it is refused", || local.stats().refused == 1).await;
    assert_eq!(get(&local, "k").await.as_deref(), Some("written"));
}

#[tokio::test]
async fn absence_has_no_stale_time() {
    let world = Aging::new();
    let remembers = stale().negative_ttl(5 * MINUTE);
    for cache in [world.cache(&remembers).await, world.local(&remembers).await] {
        let absent = || async { Ok::<_, Infallible>(Loaded::<String>::absent()) };
        assert!(matches!(
            cache.get_or_load("k", absent).await,
            Err(Error::Absent { .. })
        ));
        assert!(matches!(
            cache.get_or_load("k", absent).await,
            Err(Error::Absent { .. })
        ));
        assert_eq!(cache.stats().loads, 1, "its absence is remembered");
        world.advance(6);
        assert_eq!(
            Source::open().read(&cache, "k", "there").await.unwrap(),
            "there"
        );
        cache.invalidate("k").await.unwrap();
    }
}

#[tokio::test]
async fn value_that_is_gone_from_the_database_replaces_the_stale_one() {
    let world = Aging::new();
    let cache = world.cache(&soft()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let gone = cache
        .find_or_load("k", || async { Ok::<Option<String>, Infallible>(None) })
        .await;
    assert!(gone.unwrap().is_none());
}

/// P12 tracking-never-assumed: what no push can tell of is not kept for the time after its own
/// either.
#[tokio::test]
async fn value_kept_while_cut_off_has_no_stale_time() {
    let world = Aging::new();
    let remote = Arc::new(world.server.connect());
    let cache = world.cache_on(remote.clone(), &stale()).await;
    remote.disconnect();
    Source::open().read(&cache, "k", "old").await.unwrap();
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    world.advance(1);
    assert!(Source::open().fail(&cache, "k").await.is_err());
    assert_eq!(
        remote.lane_state(LaneIndex(0)),
        larder_core::LaneState::Down
    );
}

#[tokio::test(start_paused = true)]
async fn stale_value_that_the_database_has_no_more_is_not_served_again() {
    let absent = Loaded::<String>::absent;
    let unkept = || Loaded::new("new".to_owned()).ttl(Duration::ZERO);
    for (has_l2, answer) in [
        (true, absent()),
        (true, unkept()),
        (false, absent()),
        (false, unkept()),
    ] {
        let world = Aging::new();
        let cache = world.cache_in(has_l2, &soft()).await;
        let other = if has_l2 {
            world.cache(&soft()).await
        } else {
            cache.clone()
        };
        Source::open().read(&cache, "k", "old").await.unwrap();
        world.advance(11);
        let answered = answer.clone();
        let found = cache
            .get_or_load("k", || async { Ok::<_, Infallible>(answered) })
            .await;
        assert!(
            found.is_err() || **found.as_ref().unwrap() == "new",
            "{found:?}"
        );
        for cache in [&cache, &other] {
            let served = Source::open().fail(cache, "k").await;
            assert!(served.is_err(), "with L2: {has_l2}, {answer:?}: {served:?}");
        }
        assert_eq!(cache.stats().refused, 0);
    }
}

/// P3 clean-lease-commits: the value had not ended by itself, however long the read that found it
/// took.
#[tokio::test]
async fn value_deleted_by_a_foreign_program_while_its_reload_runs_is_not_brought_back() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let cache = world
        .cache_on(remote.clone(), &stale().levels(Levels::L2))
        .await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let (slow, source) = (remote.gate(Call::Get, When::Before), Source::gated());
    let reading = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "k", "late").await })
    };
    slow.reached().await;
    world.advance(5);
    slow.open();
    assert_eq!(reading.await.unwrap().unwrap(), "old");
    source.gate.reached().await;
    world.server.delete("item:k");
    source.gate.open();
    holds("it is refused", || cache.stats().refused == 1).await;
    assert_eq!(get(&cache, "k").await, None);
}

/// P9 reply-invalidates-again: also where the process is not told of what it does itself.
#[tokio::test]
async fn value_that_the_database_has_no_more_is_gone_from_l1_on_a_server_that_refuses_tracking() {
    let world = World::without_tracking().await;
    let cache: Items = world.cache(&soft()).await;
    world
        .server
        .command(&["SET", "item:k", "\"old\"", "EX", "600"])
        .await
        .unwrap();
    let gone = cache
        .find_or_load("k", || async { Ok::<Option<String>, Infallible>(None) })
        .await;
    assert!(gone.unwrap().is_none());
    let served = Source::open().fail(&cache, "k").await;
    assert!(served.is_err(), "{served:?}");
}
