//! What the application's hook is told.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use larder::{Cache, Event};

use crate::{
    aging::{Aging, Source},
    world::{get, holds},
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
                _ => return,
            };
            told.lock().unwrap().push(line);
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    async fn hears(&self, expected: &[&str]) {
        holds("it was told", || self.0.lock().unwrap().len() >= expected.len()).await;
        assert_eq!(self.take(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn hook_is_told_of_every_kind_of_event() {
    let world = Aging::new();
    let told = Told::default();
    let cache: Cache<String> =
        world.builder().on_event(told.hook()).build().await.unwrap().cache("soft").unwrap();
    let other = world.cache("soft").await;
    get(&cache, "k").await;
    told.hears(&["miss soft:k"]).await;
    Source::open().read(&other, "k", "old").await.unwrap();
    get(&cache, "k").await;
    get(&cache, "k").await;
    told.hears(&["hit soft:k in L2", "hit soft:k in L1"]).await;

    world.advance(11);
    assert_eq!(Source::open().fail(&cache, "k").await.unwrap(), "old");
    told.hears(&["refresh soft:k", "load soft:k: Failed", "stale soft:k"]).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    Source::open().keep(&cache, "k").await.1.unwrap();
    told.hears(&["refresh soft:k", "load soft:k: NotModified"]).await;

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
    told.hears(&["miss soft:k", "load soft:k: Loaded", "refused soft:k"]).await;

    let absent = cache.get_or_load_optional("none", || async { Ok::<Option<String>, Infallible>(None) });
    assert!(absent.await.unwrap().is_none());
    told.hears(&["miss soft:none", "load soft:none: Absent"]).await;
    let hanging = cache.get_or_load("hung", std::future::pending::<Result<String, Infallible>>);
    assert!(hanging.await.is_err());
    told.hears(&["miss soft:hung", "load soft:hung: TimedOut"]).await;
}

#[tokio::test]
async fn hook_that_panics_harms_nobody() {
    let world = Aging::new();
    let cache: Cache<String> = world
        .builder()
        .on_event(|_| panic!("a hook's own affair"))
        .build()
        .await
        .unwrap()
        .cache("item")
        .unwrap();
    assert_eq!(Source::open().read(&cache, "k", "value").await.unwrap(), "value");
    assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
}
