//! Redis comes back with older data: what a process had replaced is not served again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use larder::{Event, Larder, LarderBuilder};
use larder_redis::OnDataLoss;

use crate::support::{
    calls::{Items, gets, load, load_tagged, value},
    policy::{builder, builder_of, ms, policy},
    wait::holds,
    world::{World, process_of},
};

fn process(world: &World, choice: OnDataLoss) -> LarderBuilder {
    let config = world.config().probe_interval(ms(20));
    builder().redis_config(config.on_data_loss(choice))
}

async fn change(larder: &Larder, cache: &Items, verb: &str) {
    match verb {
        "write_through" => drop(cache.write_through("k", || value("new")).await.unwrap()),
        "write_around" => drop(cache.write_around("k", || value("new")).await.unwrap()),
        "insert" => cache.insert("k", "new".to_owned()).await.unwrap(),
        "invalidate" => cache.invalidate("k").await.unwrap(),
        "invalidate_tag" => larder.invalidate_tag("tag").await.unwrap(),
        _ => cache.clear().await.unwrap(),
    }
}

/// Every way to replace or invalidate a value.
const VERBS: [&str; 6] = [
    "write_through",
    "write_around",
    "insert",
    "invalidate",
    "invalidate_tag",
    "clear",
];

/// P30 forgotten-is-redone: whatever a process has replaced or invalidated stays so, for itself and
/// for the others. Without the rule, all of them are served the snapshot's value.
#[tokio::test(flavor = "multi_thread")]
async fn value_that_was_replaced_does_not_come_back_with_a_snapshot() {
    for (verb, choice) in VERBS
        .into_iter()
        .flat_map(|verb| [(verb, OnDataLoss::Redo), (verb, OnDataLoss::Trust)])
    {
        let mut world = World::new().await;
        let losses = Arc::new(AtomicU64::new(0));
        let told = losses.clone();
        let writer = process(&world, choice).on_event(move |event| {
            if let Event::DataLoss { .. } = event {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (larder, writer) = process_of(writer).await;
        let (_other, other) = process_of(process(&world, choice)).await;
        load_tagged(&writer, "k", "old", "tag").await;
        let saved = world.server.command(&["SAVE"]).await.unwrap();
        assert_eq!(saved.text().as_deref(), Some("OK"));
        change(&larder, &writer, verb).await;
        world.server.restart().await.unwrap();
        if choice == OnDataLoss::Trust {
            gets(&writer, "k", Some("old")).await;
            gets(&other, "k", Some("old")).await;
            assert_eq!(losses.load(Ordering::Relaxed), 0);
            continue;
        }
        holds("each lane has invalidated again what was forgotten", || {
            let stats = larder.stats();
            stats.data_losses == 2 && stats.unsent == 0
        })
        .await;
        assert_eq!(losses.load(Ordering::Relaxed), 2, "{verb}: an event each");
        for cache in [&writer, &other] {
            assert_eq!(load(cache, "k", "newer").await, "newer", "{verb}");
        }
    }
}

/// P30 forgotten-is-redone: a policy with `instant_clear` is cleared in one step where the log does
/// not reach back.
#[tokio::test(flavor = "multi_thread")]
async fn policy_with_a_header_is_cleared_without_a_scan() {
    for is_instant in [true, false] {
        let mut world = World::new().await;
        let config = world.config().probe_interval(ms(20)).max_redo(2);
        let policies = [policy().instant_clear(is_instant)];
        let (larder, cache) = process_of(builder_of(&policies).redis_config(config)).await;
        let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
        for key in &keys {
            load(&cache, key, "old").await;
        }
        let saved = world.server.command(&["SAVE"]).await.unwrap();
        assert_eq!(saved.text().as_deref(), Some("OK"));
        for key in &keys {
            cache.write_through(&**key, || value("new")).await.unwrap();
        }
        world.server.restart().await.unwrap();
        holds("each lane has cleared the policy", || {
            let stats = larder.stats();
            stats.data_losses == 2 && stats.unsent == 0
        })
        .await;
        for key in &keys {
            assert_eq!(load(&cache, key, "newer").await, "newer", "{key}");
        }
        let ran = world.server.command(&["INFO", "commandstats"]).await;
        let has_scanned = ran.unwrap().text().unwrap().contains("cmdstat_scan");
        assert_eq!(has_scanned, !is_instant);
    }
}

/// P30 forgotten-is-redone: a built-in policy is cleared if the application uses it, and only then:
/// another program may have keys under its name.
#[tokio::test(flavor = "multi_thread")]
async fn built_in_policy_is_cleared_only_if_it_is_used() {
    let mut world = World::new().await;
    let config = world.config().probe_interval(ms(20));
    let config = config.on_data_loss(OnDataLoss::Clear);
    let larder = Larder::builder()
        .redis_config(config)
        .build()
        .await
        .unwrap();
    let users = larder.cache::<u64, String>("user_profile").unwrap();
    users.insert(42, "old".to_owned()).await.unwrap();
    let foreign = ["SET", "session_token:42", "of another program"];
    for command in [&foreign[..], &["SAVE"]] {
        let said = world.server.command(command).await.unwrap();
        assert_eq!(said.text().as_deref(), Some("OK"));
    }
    users.insert(42, "new".to_owned()).await.unwrap();
    world.server.restart().await.unwrap();
    holds("each lane has cleared what it uses", || {
        let stats = larder.stats();
        stats.data_losses == 2 && stats.unsent == 0
    })
    .await;
    assert_eq!(users.get(42).await.unwrap(), None);
    let kept = world.server.command(&["GET", foreign[1]]).await.unwrap();
    assert_eq!(kept.text().as_deref(), Some(foreign[2]));
}
