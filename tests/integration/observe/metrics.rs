//! The numbers of coherence, in `stats()` and through the `metrics` facade.

use std::collections::{BTreeMap, BTreeSet};

use larder::Larder;
use larder_testkit::{Gate, eventually};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::support::{
    calls::{Items, get, load, slow_load, slow_tagged_load},
    policy::builder,
    wait::{BOUND, holds},
    world::{World, cache_of},
};

/// One fill is refused because its lease is gone, and another one because of its tag.
async fn are_refused(cache: &Items, elsewhere: &Larder) {
    let other: Items = elsewhere.cache("other").unwrap();
    let gate = Gate::new();
    let loading = [
        slow_load(cache, "a", "old", &gate),
        slow_tagged_load(cache, "b", "old", "t", &gate),
    ];
    gate.reached_by(2).await;
    other.invalidate("a").await.unwrap();
    elsewhere.invalidate_tag("t").await.unwrap();
    gate.open();
    for loading in loading {
        loading.await.unwrap().unwrap();
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.refused, stats.leases_lost, stats.pushes),
        (2, 1, 0),
        "{stats:?}"
    );
}

/// Waits until all has been published.
async fn are_published(snapshotter: &Snapshotter) {
    // Other tests' larders publish too, under the same names.
    let mut seen = BTreeMap::new();
    let published = eventually(BOUND, || {
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let labels = key
                .key()
                .labels()
                .map(|label| format!("{{{}={}}}", label.key(), label.value()));
            let name = format!("{}{}", key.key().name(), labels.collect::<String>());
            let count = if let DebugValue::Counter(count) = value {
                count
            } else {
                0
            };
            let most = seen.entry(name).or_insert(0);
            *most = count.max(*most);
        }
        let at_least = |name: &str, count| seen.get(name).is_some_and(|seen| *seen >= count);
        at_least("larder_refused_total{policy=other}", 2)
            && at_least("larder_leases_lost_total{policy=other}", 1)
            && at_least("larder_pushes_total", 1)
            && at_least("larder_lanes_lost_total", 2)
            && at_least("larder_probe_failures_total", 0)
            && at_least("larder_unsent_invalidations", 0)
            && at_least("larder_breaker_state", 0)
            && at_least("larder_breaker_opened_total", 0)
            && at_least("larder_resent_invalidations_total", 0)
            && at_least("larder_data_losses_total", 0)
            && at_least("larder_push_lag_seconds", 0)
            && at_least("larder_server_tracked_names", 0)
    });
    let published = published.await;
    assert!(published, "{seen:?}");
}

/// On one thread, which has a recorder of its own.
#[tokio::test]
async fn name_of_a_larder_is_a_label_of_its_metrics() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let cache: Items = cache_of(builder().name("sessions")).await;
    load(&cache, "k", "value").await;
    let mut published = BTreeSet::new();
    let all_are_there = eventually(BOUND, || {
        for (key, ..) in snapshotter.snapshot().into_vec() {
            let labels = key.key().labels();
            let labels: Vec<_> = labels.map(|label| (label.key(), label.value())).collect();
            assert_eq!(labels.first(), Some(&("larder", "sessions")), "{key:?}");
            published.insert((key.key().name().to_owned(), labels.len()));
        }
        let of_a_policy = |name: &str| published.contains(&(name.to_owned(), 2));
        of_a_policy("larder_load_seconds")
            && of_a_policy("larder_loads_total")
            && published.contains(&("larder_outbox_errors_total".to_owned(), 1))
    });
    assert!(all_are_there.await, "{published:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_fills_lost_leases_pushes_and_lost_lanes_are_counted_and_published() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::set_global_recorder(recorder).unwrap();
    let world = World::new().await;
    let options = world
        .config()
        .probe_interval(std::time::Duration::from_millis(20));
    let larder = builder().redis_config(options).build().await.unwrap();
    let (cache, elsewhere): (Items, _) = (larder.cache("other").unwrap(), world.larder().await);
    let other: Items = elsewhere.cache("other").unwrap();

    are_refused(&cache, &elsewhere).await;

    load(&cache, "c", "v").await;
    let pushes = larder.stats().pushes;
    other.invalidate("c").await.unwrap();
    holds("the push is counted", || larder.stats().pushes > pushes).await;
    world
        .server
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await
        .unwrap();
    holds("the lost lanes are counted", || {
        larder.stats().lanes_lost >= 2
    })
    .await;
    holds("the lag is known", || larder.stats().push_lag.is_some()).await;
    get(&cache, "c").await;

    are_published(&snapshotter).await;
}
