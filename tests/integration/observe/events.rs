//! Events that the application's hook is told of.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use larder::{BreakerState, Event};
use larder_testkit::RedisServer;

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get},
    policy::{MINUTE, builder, ms, policy},
    redis::config,
    wait::holds,
    world::process_of,
};

/// Keeps what it was told of, one line each.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn hook(&self) -> impl Fn(&Event<'_>) + Send + Sync + use<> {
        let told = self.0.clone();
        move |event| {
            let line = match *event {
                Event::Hit { key, level, .. } => format!("hit {key} in {level:?}"),
                Event::Stale { key, .. } => format!("stale {key}"),
                Event::Miss { key, .. } => format!("miss {key}"),
                Event::Refresh { key, .. } => format!("refresh {key}"),
                Event::Load { key, outcome, .. } => format!("load {key}: {outcome:?}"),
                Event::Refused { key, .. } => format!("refused {key}"),
                Event::Breaker { state } => format!("breaker {state:?}"),
                Event::Unsent { .. } => "unsent".to_owned(),
                Event::Resent { count } => format!("resent {count}"),
                _ => return,
            };
            told.lock().unwrap().push(line);
        }
    }

    fn has(&self, line: &str) -> bool {
        self.0.lock().unwrap().iter().any(|told| told == line)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    async fn hears(&self, expected: &[&str]) {
        holds("it was told", || {
            self.0.lock().unwrap().len() >= expected.len()
        })
        .await;
        assert_eq!(self.take(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn hook_is_told_of_every_kind_of_event() {
    let world = Aging::new();
    let told = Told::default();
    let soft = policy().stale_for(10 * MINUTE).soft_timeout(ms(200));
    let cache: Items = world
        .builder(&soft)
        .on_event(told.hook())
        .build()
        .await
        .unwrap()
        .cache("item")
        .unwrap();
    let other = world.cache(&soft).await;
    get(&cache, "k").await;
    told.hears(&["miss item:k"]).await;
    Source::open().read(&other, "k", "old").await.unwrap();
    get(&cache, "k").await;
    get(&cache, "k").await;
    told.hears(&["hit item:k in L2", "hit item:k in L1"]).await;

    world.advance(11);
    assert_eq!(Source::open().fail(&cache, "k").await.unwrap(), "old");
    told.hears(&["refresh item:k", "load item:k: Failed", "stale item:k"])
        .await;
    tokio::time::advance(Duration::from_secs(60)).await;
    Source::open().keep(&cache, "k").await.1.unwrap();
    told.hears(&["refresh item:k", "load item:k: NotModified"])
        .await;

    cache.invalidate("k").await.unwrap();
    let source = Source::gated();
    let loading = {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { source.read(&cache, "k", "late").await })
    };
    source.gate.reached().await;
    other.insert("k", "written".to_owned()).await.unwrap();
    source.gate.open();
    loading.await.unwrap().unwrap();
    told.hears(&["miss item:k", "load item:k: Loaded", "refused item:k"])
        .await;

    let absent = cache.find_or_load("none", || async { Ok::<Option<String>, Infallible>(None) });
    assert!(absent.await.unwrap().is_none());
    told.hears(&["miss item:none", "load item:none: Absent"])
        .await;
    let hanging = cache.get_or_load("hung", std::future::pending::<Result<String, Infallible>>);
    assert!(hanging.await.is_err());
    told.hears(&["miss item:hung", "load item:hung: TimedOut"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hook_is_told_of_an_outage() {
    let mut server = RedisServer::start().await.unwrap();
    let told = Told::default();
    let config = config(server.url()).lanes(1);
    let (larder, cache) = process_of(builder().redis_config(config).on_event(told.hook())).await;
    server.kill();
    holds("it is given up", || {
        larder.stats().breaker == BreakerState::Open
    })
    .await;
    cache.invalidate("k").await.unwrap();
    server.restart().await.unwrap();
    holds("it is asked again", || larder.stats().resent == 1).await;
    holds("the hook was told", || told.has("breaker Closed")).await;
    for line in ["breaker Open", "unsent", "breaker HalfOpen", "resent 1"] {
        assert!(told.has(line), "{line}");
    }
}

#[tokio::test]
async fn hook_that_panics_harms_nobody() {
    let world = Aging::new();
    let cache: Items = world
        .builder(&policy())
        .on_event(|_| panic!("a hook's own affair"))
        .build()
        .await
        .unwrap()
        .cache("item")
        .unwrap();
    assert_eq!(
        Source::open().read(&cache, "k", "value").await.unwrap(),
        "value"
    );
    assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
}
