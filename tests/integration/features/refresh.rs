//! Reloads ahead of time, and loaders that find nothing new.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use larder::{Error, Levels, Loaded};
use larder_testkit::Reply;
use larder_ttl::PolicyBuilder;

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get, gets, load_tagged},
    gated::{Call, Gated, When},
    policy::{MINUTE, SECOND, ms, policy},
    wait::{holds, start},
    world::World,
};

/// A read in the last fifth of a life starts a reload.
fn ahead() -> PolicyBuilder {
    policy().l1_ttl(10 * MINUTE).refresh_ahead(0.8)
}

/// Like [`ahead`] without L1, and with a stale time after the ten minutes.
fn ahead_in_l2() -> PolicyBuilder {
    let policy = policy()
        .levels(Levels::L2)
        .refresh_ahead(0.8)
        .negative_ttl(MINUTE);
    policy.stale_for(10 * MINUTE).soft_timeout(5 * SECOND)
}

/// A value past its time is served if its load takes longer than 200 ms.
fn stale() -> PolicyBuilder {
    policy().stale_for(10 * MINUTE).soft_timeout(ms(200))
}

#[tokio::test(start_paused = true)]
async fn read_in_the_last_part_of_a_life_starts_one_reload_over_all_processes() {
    for policy in [ahead(), ahead_in_l2()] {
        let world = Aging::new();
        let (one, other) = (world.cache(&policy).await, world.cache(&policy).await);
        let source = Source::gated();
        Source::open().read(&one, "k", "old").await.unwrap();
        assert_eq!(source.read(&other, "k", "new").await.unwrap(), "old");
        world.advance(7);
        assert_eq!(source.read(&one, "k", "new").await.unwrap(), "old");
        assert_eq!(source.loads(), 0, "it is too early");
        world.advance(2);
        let began = tokio::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(source.read(&one, "k", "new").await.unwrap(), "old");
            assert_eq!(source.read(&other, "k", "new").await.unwrap(), "old");
            assert_eq!(get(&one, "k").await.as_deref(), Some("old"));
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "no reader is delayed");
        source.gate.reached().await;
        source.gate.open();
        gets(&one, "k", Some("new")).await;
        gets(&other, "k", Some("new")).await;
        world.advance(7);
        assert_eq!(
            get(&one, "k").await.as_deref(),
            Some("new"),
            "its life began anew"
        );
        assert_eq!(source.loads(), 1, "{policy:?}");
    }
}

#[tokio::test]
async fn entry_that_expires_while_its_reload_runs_is_waited_for() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let cache = world.cache_in(has_l2, &ahead()).await;
        Source::open().read(&cache, "k", "old").await.unwrap();
        world.advance_by(10 * MINUTE - Duration::from_secs(3));
        let source = Source::gated();
        assert_eq!(source.read(&cache, "k", "new").await.unwrap(), "old");
        source.gate.reached().await;
        world.advance_by(Duration::from_secs(6)); // its lease lives on
        let waiting = {
            let (cache, source) = (cache.clone(), source.clone());
            start(async move { source.read(&cache, "k", "second").await })
        };
        source.gate.open();
        assert_eq!(waiting.await.unwrap().unwrap(), "new");
        assert_eq!(source.loads(), 1, "with L2: {has_l2}");
    }
}

/// P3 clean-lease-commits: what was invalidated is not brought back by the reload that had begun.
#[tokio::test]
async fn entry_invalidated_while_its_reload_runs_is_not_kept() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let cache = world.cache_in(has_l2, &ahead()).await;
        Source::open().read(&cache, "k", "old").await.unwrap();
        world.advance(9);
        let source = Source::gated();
        assert_eq!(source.read(&cache, "k", "late").await.unwrap(), "old");
        source.gate.reached().await;
        cache.invalidate("k").await.unwrap();
        source.gate.open();
        holds("it is refused", || cache.stats().refused == 1).await;
        assert_eq!(get(&cache, "k").await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_loaded_together_is_not_reloaded_together() {
    let world = Aging::new();
    let cache = world.local(&ahead()).await;
    let slow = Source::gated();
    let loading: Vec<_> = (0..300)
        .map(|key| {
            let (cache, source) = (cache.clone(), slow.clone());
            start(async move { source.read(&cache, &format!("k{key}"), "old").await })
        })
        .collect();
    slow.gate.reached_by(300).await;
    // What takes long is begun early, each at a time of its own.
    tokio::time::advance(Duration::from_secs(59)).await;
    slow.gate.open();
    for loading in loading {
        loading.await.unwrap().unwrap();
    }
    let mut seconds = BTreeSet::new();
    let source = Source::open();
    for second in 0..600 {
        let before = source.loads();
        for key in 0..300 {
            source
                .read(&cache, &format!("k{key}"), "new")
                .await
                .unwrap();
        }
        for _ in 0..20 {
            tokio::task::yield_now().await; // the reloads are tasks
        }
        if source.loads() > before {
            seconds.insert(second);
        }
        world.advance_by(Duration::from_secs(1));
        if source.loads() == 300 {
            break;
        }
    }
    assert!(
        source.loads() >= 300 && seconds.len() > 40,
        "{} loads in {} seconds",
        source.loads(),
        seconds.len()
    );
    assert!(
        seconds.iter().all(|second| (240..=481).contains(second)),
        "none later than its policy says, nor before half of that: {seconds:?}"
    );
}

#[tokio::test]
async fn not_modified_keeps_the_entry_and_starts_its_life_anew() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let cache = world.cache_in(has_l2, &stale()).await;
        Source::open().read(&cache, "k", "same").await.unwrap();
        world.advance(11);
        let source = Source::open();
        let (shown, served) = source.keep(&cache, "k").await;
        assert_eq!(
            (shown.as_deref(), served.unwrap().as_str()),
            (Some("same"), "same")
        );
        world.advance(9);
        assert_eq!(
            get(&cache, "k").await.as_deref(),
            Some("same"),
            "its life began anew"
        );
        world.advance(2);
        assert_eq!(get(&cache, "k").await, None);
        assert_eq!(source.loads(), 1);
        cache.invalidate("k").await.unwrap();
        let (shown, served) = source.keep(&cache, "k").await;
        assert!(
            shown.is_none() && matches!(served, Err(Error::NothingToKeep { .. })),
            "{served:?}"
        );
    }
}

#[tokio::test]
async fn not_modified_writes_nothing_but_the_expiry() {
    let world = World::new().await;
    let cache: Items = world.cache(&stale()).await;
    let foreign = "\"same\"  "; // which no larder would write so
    world
        .server
        .command(&["SET", "item:k", foreign, "EX", "600"])
        .await
        .unwrap();
    let (shown, served) = Source::open().keep(&cache, "k").await;
    assert_eq!(
        (shown.as_deref(), served.unwrap().as_str()),
        (Some("same"), "same")
    );
    assert_eq!(world.l2("item:k").await.as_deref(), Some(foreign));
    let rest = world.server.command(&["TTL", "item:k"]).await.unwrap();
    assert!(matches!(rest, Reply::Integer(1195..=1200)), "{rest:?}");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("same"));
    let hits = cache.stats().l1_hits;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("same"));
    assert_eq!(cache.stats().l1_hits, hits + 1, "it is in L1 too");
}

/// P23 tags-pinned-before-commit: also what lives on has its tags held, and is invalidated by them.
#[tokio::test]
async fn tagged_entry_that_lives_on_keeps_its_tags() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let larder = world.larder_in(has_l2, &stale()).await;
        let cache: Items = larder.cache("item").unwrap();
        load_tagged(&cache, "k", "same", "t").await;
        for _ in 0..3 {
            world.advance(11);
            assert_eq!(Source::open().keep(&cache, "k").await.1.unwrap(), "same");
            assert_eq!(get(&cache, "k").await.as_deref(), Some("same"));
        }
        if has_l2 {
            let other = world.cache(&stale()).await;
            assert_eq!(
                get(&other, "k").await.as_deref(),
                Some("same"),
                "its tags live on with it"
            );
        }
        larder.invalidate_tag("t").await.unwrap();
        assert_eq!(get(&cache, "k").await, None);

        load_tagged(&cache, "k", "same", "t").await;
        world.advance(11);
        let source = Source::gated();
        let keeping = {
            let (cache, source) = (cache.clone(), source.clone());
            start(async move { source.keep(&cache, "k").await.1 })
        };
        source.gate.reached().await;
        larder.invalidate_tag("t").await.unwrap();
        source.gate.open();
        assert_eq!(
            keeping.await.unwrap().unwrap(),
            "same",
            "it asked before the tag was removed"
        );
        assert_eq!(get(&cache, "k").await, None, "with L2: {has_l2}");
    }
}

/// P3 clean-lease-commits: "not modified" is refused like a value is, if somebody wrote meanwhile.
#[tokio::test]
async fn entry_written_while_it_is_found_unmodified_is_not_touched() {
    let world = Aging::new();
    let (one, other) = (world.cache(&stale()).await, world.cache(&stale()).await);
    Source::open().read(&one, "k", "old").await.unwrap();
    world.advance(11);
    let source = Source::gated();
    let keeping = {
        let (cache, source) = (one.clone(), source.clone());
        start(async move { source.keep(&cache, "k").await.1 })
    };
    source.gate.reached().await;
    other
        .insert("k", Loaded::new("new".to_owned()).ttl(MINUTE))
        .await
        .unwrap();
    source.gate.open();
    keeping.await.unwrap().unwrap();
    assert_eq!(get(&one, "k").await.as_deref(), Some("new"));
    world.advance(2);
    assert_eq!(get(&other, "k").await, None, "its own life has ended");
}

#[tokio::test]
async fn writer_without_a_value_leaves_none() {
    let world = Aging::new();
    let cache = world.cache(&policy().negative_ttl(MINUTE)).await;
    for answer in [Loaded::<String>::absent(), Loaded::not_modified()] {
        cache.insert("k", "old".to_owned()).await.unwrap();
        let written = cache
            .write_through("k", || async { Ok::<_, Infallible>(answer) })
            .await;
        assert!(
            matches!(
                written,
                Err(Error::Absent { .. } | Error::NothingToKeep { .. })
            ),
            "{written:?}"
        );
        assert_eq!(get(&cache, "k").await, None);
    }
    cache.insert("k", Loaded::<String>::absent()).await.unwrap();
    let known = Source::open().read(&cache, "k", "x").await;
    assert!(matches!(known, Err(Error::Absent { .. })), "{known:?}");
    let kept = cache.insert("k", Loaded::<String>::not_modified()).await;
    assert!(matches!(kept, Err(Error::NothingToKeep { .. })), "{kept:?}");
}

#[tokio::test]
async fn hit_that_starts_a_reload_is_one_hit() {
    let world = Aging::new();
    let cache = world.cache(&ahead()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(9);
    assert_eq!(
        Source::open().read(&cache, "k", "new").await.unwrap(),
        "old"
    );
    holds("it is reloaded", || cache.stats().refreshes == 1).await;
    assert_eq!(cache.stats().l1_hits, 1);
}

#[tokio::test]
async fn hit_outside_a_runtime_is_served_though_nothing_can_be_reloaded() {
    let world = Aging::new();
    let cache = world.local(&ahead()).await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(9);
    let outside = std::thread::spawn(move || {
        futures_util::FutureExt::now_or_never(Source::open().read(&cache, "k", "new")).unwrap()
    });
    assert_eq!(outside.join().unwrap().unwrap(), "old");
}

#[tokio::test(start_paused = true)]
async fn failed_reload_ahead_of_time_is_not_tried_again_before_its_pause_is_over() {
    for policy in [ahead(), ahead_in_l2()] {
        let world = Aging::new();
        let cache = world.cache(&policy).await;
        Source::open().read(&cache, "k", "old").await.unwrap();
        world.advance(9);
        let source = Source::open();
        assert_eq!(
            source.fail(&cache, "k").await.unwrap(),
            "old",
            "no reader is delayed"
        );
        holds("it has failed", || cache.stats().load_errors == 1).await;
        for _ in 0..10 {
            assert_eq!(source.fail(&cache, "k").await.unwrap(), "old");
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(source.loads(), 1, "{policy:?}");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(source.fail(&cache, "k").await.unwrap(), "old");
        holds("it is tried again", || source.loads() == 2).await;
    }
}

#[tokio::test]
async fn due_value_that_appears_while_a_load_begins_is_served_at_once() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let cache = world.cache_on(remote.clone(), &ahead()).await;
    let (claim, source) = (remote.gate(Call::Claim, When::Before), Source::gated());
    let reading = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "k", "loaded").await })
    };
    claim.reached().await;
    world.server.write("item:k", "\"there\"", Some(MINUTE));
    claim.open();
    assert_eq!(reading.await.unwrap().unwrap(), "there");
    assert_eq!(source.loads(), 0);
}

#[tokio::test]
async fn absence_is_neither_stale_nor_reloaded_ahead_in_any_process() {
    for policy in [stale().negative_ttl(MINUTE), ahead_in_l2()] {
        let world = Aging::new();
        let (one, other) = (world.cache(&policy).await, world.cache(&policy).await);
        let absent = || async { Ok::<_, Infallible>(Loaded::<String>::absent()) };
        assert!(matches!(
            one.get_or_load("k", absent).await,
            Err(Error::Absent { .. })
        ));
        assert!(matches!(
            other.get_or_load("k", absent).await,
            Err(Error::Absent { .. })
        ));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            (
                other.stats().loads,
                other.stats().stale_hits,
                other.stats().l2_hits
            ),
            (0, 0, 1),
            "{policy:?}"
        );
    }
}

#[tokio::test]
async fn reload_of_what_cannot_be_read_any_more_is_shown_nothing() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let cache = world.cache_on(remote.clone(), &ahead_in_l2()).await;
    world.server.write("item:k", "\"stale\"", Some(MINUTE));
    let (claim, source) = (remote.gate(Call::Claim, When::Before), Source::open());
    let keeping = {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.keep(&cache, "k").await })
    };
    claim.reached().await;
    world
        .server
        .write("item:k", "neither JSON nor a frame", Some(MINUTE));
    claim.open();
    let (shown, served) = keeping.await.unwrap();
    assert!(
        shown.is_none() && matches!(served, Err(Error::NothingToKeep { .. })),
        "{shown:?} {served:?}"
    );
}

/// P16 only-for-earlier-callers, P23 tags-pinned-before-commit: a value whose tag was removed while
/// it was loaded is for nobody who came after the load began.
#[tokio::test]
async fn value_whose_tag_is_removed_while_it_is_loaded_goes_only_to_those_who_came_before() {
    for has_l2 in [true, false] {
        let world = Aging::new();
        let larder = world.larder_in(has_l2, &policy()).await;
        let cache: Items = larder.cache("item").unwrap();
        let source = Source::gated();
        let before = {
            let (cache, gate) = (cache.clone(), source.gate.clone());
            let loader = || async move {
                gate.pass().await;
                Ok::<_, Infallible>(Loaded::new("old".to_owned()).tag("t"))
            };
            start(async move { cache.get_or_load("k", loader).await })
        };
        source.gate.reached().await;
        larder.invalidate_tag("t").await.unwrap();
        let after = {
            let cache = cache.clone();
            start(async move { Source::open().read(&cache, "k", "new").await })
        };
        for _ in 0..20 {
            tokio::task::yield_now().await; // it has joined
        }
        source.gate.open();
        assert_eq!(*before.await.unwrap().unwrap(), "old");
        assert_eq!(after.await.unwrap().unwrap(), "new", "with L2: {has_l2}");
    }
}

/// A reader of L2 cannot know that it was given less than its policy's time: then it
/// seems due at once.
#[tokio::test]
async fn value_with_a_short_life_of_its_own_is_not_reloaded_at_every_read() {
    for policy in [ahead(), ahead_in_l2()] {
        let world = Aging::new();
        let (one, other) = (world.cache(&policy).await, world.cache(&policy).await);
        for _ in 0..50 {
            for cache in [&one, &other] {
                let brief =
                    || async { Ok::<_, Infallible>(Loaded::new("value".to_owned()).ttl(MINUTE)) };
                assert_eq!(*cache.get_or_load("k", brief).await.unwrap(), "value");
                for _ in 0..20 {
                    tokio::task::yield_now().await; // the reloads are tasks
                }
            }
        }
        let loads = one.stats().loads + other.stats().loads;
        assert!(
            loads <= 2,
            "{policy:?}: one for each process and life, and not {loads}"
        );
    }
}
