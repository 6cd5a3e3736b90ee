//! Entries that L1 serves and entries that it does not, on each of its stores.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use larder::{Clock, L1Store, Larder};
use larder_testkit::Gate;

use crate::support::{
    calls::{Items, get, gets, load, load_tagged, slow_load},
    policy::builder,
    wait::holds,
    world::World,
};

const STORES: [L1Store; 2] = [L1Store::Moka, L1Store::Quick];

async fn larder(world: &World, store: L1Store) -> Larder {
    builder()
        .redis_config(world.config())
        .l1_store(store)
        .build()
        .await
        .unwrap()
}

fn items(larder: &Larder) -> Items {
    larder.cache("item").unwrap()
}

/// P2 only-current-is-served: here at once, elsewhere when the push arrives.
#[tokio::test(flavor = "multi_thread")]
async fn invalidated_entry_is_not_served() {
    let world = World::new().await;
    for store in STORES {
        let (here, elsewhere) = (larder(&world, store).await, larder(&world, store).await);
        let (here, elsewhere) = (items(&here), items(&elsewhere));
        for round in 0..100 {
            let value = round.to_string();
            assert_eq!(load(&here, "k", &value).await, value);
            assert_eq!(get(&here, "k").await, Some(value.clone()));
            gets(&elsewhere, "k", Some(&value)).await;
            here.invalidate("k").await.unwrap();
            assert_eq!(get(&here, "k").await, None, "{store:?}");
            gets(&elsewhere, "k", None).await;
        }
        assert!(here.stats().l1_hits >= 100, "{store:?}");
    }
}

/// P12 tracking-never-assumed.
#[tokio::test(flavor = "multi_thread")]
async fn entry_that_a_foreign_program_deletes_is_not_served() {
    let world = World::new().await;
    for store in STORES {
        let cache = items(&larder(&world, store).await);
        load(&cache, "k", "old").await;
        world.server.command(&["DEL", "item:k"]).await.unwrap();
        gets(&cache, "k", None).await;
    }
}

/// P1 stamp-before-read, P2 only-current-is-served.
#[tokio::test(flavor = "multi_thread")]
async fn load_that_was_under_way_when_its_key_was_invalidated_is_not_kept() {
    let world = World::new().await;
    for store in STORES {
        let cache = items(&larder(&world, store).await);
        let gate = Gate::new();
        let loading = slow_load(&cache, "late", "old", &gate);
        gate.reached().await;
        cache.invalidate("late").await.unwrap();
        gate.open();
        loading.await.unwrap().unwrap();
        assert_eq!(get(&cache, "late").await, None, "{store:?}");
    }
}

/// P10 loss-told-before-successor.
#[tokio::test(flavor = "multi_thread")]
async fn entry_whose_lane_was_lost_is_asked_for_again() {
    let world = World::new().await;
    for store in STORES {
        let larder = larder(&world, store).await;
        let cache = items(&larder);
        load(&cache, "k", "kept").await;
        assert_eq!(get(&cache, "k").await.as_deref(), Some("kept"));
        let before = (larder.stats(), cache.stats().l2_hits);
        world
            .server
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await
            .unwrap();
        holds("both lanes are lost", || {
            larder.stats().lanes_lost >= before.0.lanes_lost + 2
        })
        .await;
        gets(&cache, "k", Some("kept")).await;
        holds("it comes from L2", || cache.stats().l2_hits > before.1).await;
        cache.invalidate("k").await.unwrap();
    }
}

/// P21 tags-pinned-in-time.
#[tokio::test(flavor = "multi_thread")]
async fn entry_whose_tag_was_invalidated_is_not_served() {
    let world = World::new().await;
    for store in STORES {
        let (here, elsewhere) = (larder(&world, store).await, larder(&world, store).await);
        let caches = [items(&here), items(&elsewhere)];
        load_tagged(&caches[0], "k", "tagged", "t").await;
        load(&caches[0], "other", "stays").await;
        gets(&caches[1], "k", Some("tagged")).await;
        here.invalidate_tag("t").await.unwrap();
        assert_eq!(get(&caches[0], "k").await, None, "{store:?}");
        gets(&caches[1], "k", None).await;
        assert_eq!(
            get(&caches[0], "other").await.as_deref(),
            Some("stays"),
            "{store:?}"
        );
        caches[0].invalidate("other").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cleared_row_serves_nothing() {
    let world = World::new().await;
    for store in STORES {
        let (here, elsewhere) = (larder(&world, store).await, larder(&world, store).await);
        let (cache, elsewhere) = (items(&here), items(&elsewhere));
        for key in 0..100 {
            cache
                .insert(key.to_string(), "old".to_owned())
                .await
                .unwrap();
            assert_eq!(
                get(&elsewhere, &key.to_string()).await.as_deref(),
                Some("old")
            );
        }
        cache.clear().await.unwrap();
        for key in (0..100).map(|key| key.to_string()) {
            assert_eq!(get(&cache, &key).await, None, "{store:?}");
            gets(&elsewhere, &key, None).await;
        }
    }
}

/// P20 l1-ends-with-l2: and the memory of what has expired comes back, also if nobody asks for it.
#[tokio::test(flavor = "multi_thread")]
async fn expired_entry_is_neither_served_nor_held() {
    for store in STORES {
        let (clock, hand) = Clock::manual();
        let cache = items(
            &builder()
                .clock(clock)
                .l1_store(store)
                .build()
                .await
                .unwrap(),
        );
        let mut held: Vec<Weak<String>> = Vec::new();
        for key in 0..100 {
            let key = key.to_string();
            cache
                .insert(key.as_str(), "value".to_owned())
                .await
                .unwrap();
            held.push(Arc::downgrade(
                &cache.get(key.as_str()).await.unwrap().unwrap(),
            ));
        }
        hand.advance(Duration::from_secs(599));
        assert_eq!(
            get(&cache, "0").await.as_deref(),
            Some("value"),
            "{store:?}"
        );
        hand.advance(Duration::from_secs(3));
        assert_eq!(get(&cache, "0").await, None, "{store:?}");
        holds("no expired value is held", || {
            held.iter().all(|value| value.upgrade().is_none())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_l1_holds_no_more_than_its_entries_or_bytes() {
    for store in STORES {
        for builder in [builder().l1_entries(100), builder().l1_bytes(120_000)] {
            let cache = items(&builder.l1_store(store).build().await.unwrap());
            let mut held: Vec<Weak<String>> = Vec::new();
            for key in 0..2000 {
                let loader = || async { Ok::<_, std::io::Error>("x".repeat(1000)) };
                held.push(Arc::downgrade(
                    &cache.get_or_load(key.to_string(), loader).await.unwrap(),
                ));
            }
            // moka evicts now and then, and once a second.
            let count = || held.iter().filter(|value| value.strong_count() > 0).count();
            holds("it is bounded", || count() <= 100).await;
            assert!(count() >= 50, "{store:?} holds {}", count());
        }
    }
}
