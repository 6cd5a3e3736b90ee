//! Loaders and writers that call the larder again. The time of these tests is by hand: whoever
//! waits for a limit would wait for ever.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use larder::Error;
use larder_core::MemoryServer;
use larder_testkit::Gate;
use larder_ttl::PolicyBuilder;
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, load, start_load, value},
    policy::{MINUTE, SECOND, builder_of, named, policy},
    wait::start,
};

type Loaded = Result<String, Error>;

/// Loads a key, with a loader that asks for another one.
async fn load_of(cache: Items, key: &'static str, other: &'static str) -> Loaded {
    let inner = cache.clone();
    let loader = move || async move { ask(inner, other).await };
    let loaded = cache.get_or_load(key, loader).await?;
    Ok((*loaded).clone())
}

/// Asks for a key with a loader that returns its name.
async fn ask(cache: Items, key: &'static str) -> Loaded {
    let loaded = cache.get_or_load(key, move || value(key)).await?;
    Ok((*loaded).clone())
}

/// The keys that wait for each other, as the innermost error names them.
fn cycle<T: std::fmt::Debug>(failed: Result<T, Error>) -> String {
    let mut failed = failed.unwrap_err();
    while let Some(inner) = failed.load_error::<Error>() {
        failed = inner.clone();
    }
    match failed {
        Error::Deadlock { cycle, .. } => cycle,
        other => panic!("{other:?}"),
    }
}

async fn caches() -> [Items; 2] {
    let world = Aging::new();
    [
        world.cache_in(true, &policy()).await,
        world.cache_in(false, &policy()).await,
    ]
}

#[tokio::test(start_paused = true)]
async fn loader_that_asks_for_its_own_key_fails_at_once_and_names_it() {
    for cache in caches().await {
        let began = Instant::now();
        let own = load_of(cache.clone(), "k", "k").await;
        assert_eq!(cycle(own), "item:k → item:k");

        let inner = cache.clone();
        let loader = move || async move {
            inner
                .refresh("k", || value("v"))
                .await
                .map(|_| String::new())
        };
        assert_eq!(
            cycle(cache.get_or_load("k", loader).await),
            "item:k → item:k"
        );

        let inner = cache.clone();
        let loader = move |keys: Vec<&'static str>| async move { each(inner, keys).await };
        let many = cache.get_or_load_many(&["a", "b"], loader).await;
        assert!(cycle(many).starts_with("item:"), "either of them");
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        assert_eq!(load(&cache, "k", "v").await, "v", "nothing is left of it");
    }
}

/// Asks for each key by itself.
async fn each(
    cache: Items,
    keys: Vec<&'static str>,
) -> Result<HashMap<&'static str, String>, Error> {
    let mut found = HashMap::new();
    for key in keys {
        found.insert(key, ask(cache.clone(), key).await?);
    }
    Ok(found)
}

/// Two loads of different callers, each of which asks for the other's key.
#[tokio::test(start_paused = true)]
async fn loads_that_wait_for_each_other_end_at_once() {
    for cache in caches().await {
        let gates = [Gate::new(), Gate::new()];
        let crossing = |nth: usize| -> JoinHandle<Loaded> {
            let (cache, gate) = (cache.clone(), gates[nth].clone());
            let (key, other) = [("a", "b"), ("b", "a")][nth];
            let inner = cache.clone();
            let loader = move || async move {
                gate.pass().await;
                ask(inner, other).await
            };
            start(async move { Ok((*cache.get_or_load(key, loader).await?).clone()) })
        };
        let began = Instant::now();
        let loads = [crossing(0), crossing(1)];
        for gate in &gates {
            gate.reached().await;
            gate.open();
        }
        for load in loads {
            let cycle = cycle(load.await.unwrap());
            assert!(["item:a → item:b → item:a", "item:b → item:a → item:b"].contains(&&*cycle));
        }
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn writer_that_asks_for_its_own_key_fails_at_once() {
    let [cache, _] = caches().await;
    let began = Instant::now();
    let inner = cache.clone();
    let reading = cache.write_through("k", move || async move { ask(inner, "k").await });
    assert_eq!(cycle(reading.await), "item:k → item:k");
    let inner = cache.clone();
    let writer = move || async move { inner.insert("k", "v".to_owned()).await };
    assert_eq!(
        cycle(cache.write_around("k", writer).await),
        "item:k → item:k"
    );
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn writers_that_nest_their_keys_in_opposite_order_do_not_wait_for_each_other() {
    let [cache, _] = caches().await;
    let gates = [Gate::new(), Gate::new()];
    let crossing = |nth: usize| {
        let (cache, gate) = (cache.clone(), gates[nth].clone());
        let (key, other) = [("a", "b"), ("b", "a")][nth];
        let inner = cache.clone();
        let writer = move || async move {
            gate.pass().await;
            inner.insert(other, "v".to_owned()).await
        };
        start(async move { cache.write_around(key, writer).await })
    };
    let began = Instant::now();
    let writes = [crossing(0), crossing(1)];
    for gate in &gates {
        gate.reached().await;
    }
    gates.iter().for_each(Gate::open);
    let [one, other] = writes;
    let ended = [one.await.unwrap(), other.await.unwrap()];
    let (done, refused): (Vec<_>, Vec<_>) = ended.into_iter().partition(Result::is_ok);
    assert_eq!((done.len(), refused.len()), (1, 1));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

/// A write waits for no load: it takes the lease away.
#[tokio::test(start_paused = true)]
async fn loader_may_write_its_own_key() {
    for cache in caches().await {
        let inner = cache.clone();
        let loader = move || async move {
            inner.insert("k", "written".to_owned()).await?;
            Ok::<_, Error>("loaded".to_owned())
        };
        assert_eq!(
            **cache.get_or_load("k", loader).await.as_ref().unwrap(),
            "loaded"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn loader_that_asks_for_its_own_stale_value_is_given_it() {
    let world = Aging::new();
    let cache = world
        .cache(&policy().stale_for(10 * MINUTE).soft_timeout(SECOND))
        .await;
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let began = Instant::now();
    assert_eq!(load_of(cache, "k", "k").await.unwrap(), "old");
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

fn one_at_a_time() -> PolicyBuilder {
    policy().max_loads(1).max_wait(MINUTE)
}

#[tokio::test(start_paused = true)]
async fn nested_load_of_a_policy_is_a_part_of_the_one_around_it() {
    let world = Aging::new();
    for has_l2 in [true, false] {
        let cache = world.cache_in(has_l2, &one_at_a_time()).await;
        let began = Instant::now();
        assert_eq!(load_of(cache.clone(), "a", "b").await.unwrap(), "b");

        let inner = cache.clone();
        let loader = move |keys: Vec<&'static str>| async move {
            let loaded = ask(inner, "inner").await?;
            Ok::<_, Error>(
                keys.into_iter()
                    .map(|key| (key, loaded.clone()))
                    .collect::<HashMap<_, _>>(),
            )
        };
        let many = cache.get_or_load_many(&["c", "d"], loader).await.unwrap();
        assert_eq!(many["c"].as_str(), "inner");

        let inner = cache.clone();
        let loader = move || async move {
            let found = inner.get_or_load_many(&["e", "f"], names).await?;
            Ok::<_, Error>(found["f"].to_string())
        };
        assert_eq!(cache.get_or_load("g", loader).await.unwrap().as_str(), "f");
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    }
}

/// Loads each key's name.
async fn names(keys: Vec<&'static str>) -> Result<HashMap<&'static str, String>, Infallible> {
    Ok(keys.into_iter().map(|key| (key, key.to_owned())).collect())
}

/// Another caller's load waits for the permit that the load around the call has.
#[tokio::test(start_paused = true)]
async fn load_that_waits_for_its_turn_runs_at_once_if_the_running_one_asks_for_it() {
    let world = Aging::new();
    for has_l2 in [true, false] {
        let cache = world.cache_in(has_l2, &one_at_a_time()).await;
        let gate = Gate::new();
        let outer = {
            let (cache, inner, gate) = (cache.clone(), cache.clone(), gate.clone());
            let loader = move || async move {
                gate.pass().await;
                ask(inner, "b").await
            };
            start(async move { cache.get_or_load("a", loader).await })
        };
        gate.reached().await;
        let began = Instant::now();
        let waiting = start_load(&cache, "b", "of another caller");
        tokio::task::yield_now().await;
        gate.open();
        assert_eq!(outer.await.unwrap().unwrap().as_str(), "of another caller");
        assert_eq!(
            waiting.await.unwrap().unwrap().as_str(),
            "of another caller"
        );
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn nested_loads_of_another_policy_keep_to_its_limit() {
    let remote = Arc::new(MemoryServer::new(larder::Clock::system()).connect());
    let policies = [policy(), named("other").max_loads(2).max_wait(MINUTE)];
    let larder = builder_of(&policies)
        .remote_store(remote)
        .build()
        .await
        .unwrap();
    let (items, others): (Items, Items) = (
        larder.cache("item").unwrap(),
        larder.cache("other").unwrap(),
    );
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = most.clone();
    let loader = move || async move {
        let loads = (0..10).map(|key| {
            let (running, most) = (running.clone(), most.clone());
            let loader = move || async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>("v".to_owned())
            };
            others.get_or_load(key.to_string(), loader)
        });
        let loaded = futures_util::future::try_join_all(loads).await?;
        Ok::<_, Error>(loaded.len().to_string())
    };
    assert_eq!(
        items.get_or_load("all", loader).await.unwrap().as_str(),
        "10"
    );
    assert_eq!(counted.load(Ordering::SeqCst), 2);
}
