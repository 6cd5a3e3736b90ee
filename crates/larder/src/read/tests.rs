//! Processes on a store in memory, whose clock the tests move.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{Clock, ManualClock, MemoryServer};
use larder_ttl::{Policy, PolicyBuilder, TtlTable};

use crate::{Cache, Larder, Loaded};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

struct World {
    server: MemoryServer,
    clock: Clock,
    hand: ManualClock,
    policy: PolicyBuilder,
    loads: Arc<AtomicUsize>,
}

type Items = Cache<String, String>;

impl World {
    /// Entries live 10 minutes in both levels, without jitter.
    fn new() -> Self {
        Self::with(|policy| policy)
    }

    fn with(adapt: impl FnOnce(PolicyBuilder) -> PolicyBuilder) -> Self {
        let (clock, hand) = Clock::manual();
        let server = MemoryServer::new(clock.clone());
        let policy = adapt(Policy::builder("item", 10 * MINUTE).jitter(0.0));
        Self {
            server,
            clock,
            hand,
            policy,
            loads: Arc::default(),
        }
    }

    async fn larder(&self) -> Larder {
        let table = TtlTable::empty()
            .with(self.policy.clone().build().unwrap())
            .unwrap();
        let store = Arc::new(self.server.connect());
        let builder = Larder::builder().ttl_table(table).remote_store(store);
        builder.clock(self.clock.clone()).build().await.unwrap()
    }

    /// The cache of a new process.
    async fn process(&self) -> Items {
        self.larder().await.cache("item").unwrap()
    }

    async fn load(&self, cache: &Items, value: impl Into<Loaded<String>>) -> String {
        let (loads, value) = (self.loads.clone(), value.into());
        let loader = || async move {
            loads.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(value)
        };
        (*cache.get_or_load("k", loader).await.unwrap()).clone()
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }
}

async fn get(cache: &Items) -> Option<String> {
    cache.get("k").await.unwrap().map(|value| (*value).clone())
}

#[tokio::test]
async fn loaded_value_is_found_in_l1_and_by_another_process_in_l2() {
    let world = World::new();
    let (one, other) = (world.process().await, world.process().await);
    assert_eq!(world.load(&one, "value".to_owned()).await, "value");
    assert_eq!(get(&one).await.as_deref(), Some("value"));
    assert_eq!(world.load(&other, "not this".to_owned()).await, "value");
    assert_eq!(get(&other).await.as_deref(), Some("value"));
    let (one, other) = (one.stats(), other.stats());
    assert_eq!((one.loads, one.l1_hits, one.l2_hits), (1, 1, 0));
    assert_eq!((other.loads, other.l1_hits, other.l2_hits), (0, 1, 1));
}

#[tokio::test]
async fn value_invalidated_in_one_process_is_gone_from_both_levels_of_all() {
    let world = World::new();
    let (one, other) = (world.process().await, world.process().await);
    world.load(&one, "old".to_owned()).await;
    world.load(&other, "old".to_owned()).await;
    one.invalidate("k").await.unwrap();
    assert_eq!((get(&one).await, get(&other).await), (None, None));
    assert_eq!(world.load(&other, "new".to_owned()).await, "new");
    assert_eq!(world.load(&one, "newer".to_owned()).await, "new");
    assert_eq!(world.loads(), 2);
}

/// P20 l1-ends-with-l2: the copy's deadline counts the rest of the value's life in L2.
#[tokio::test]
async fn copy_in_l1_ends_when_its_value_in_l2_does() {
    let world = World::with(|policy| policy.l1_ttl(10 * MINUTE));
    let (one, other) = (world.process().await, world.process().await);
    world.load(&one, "value".to_owned()).await;
    world.hand.advance(9 * MINUTE);
    assert_eq!(world.load(&other, "not this".to_owned()).await, "value");
    world.hand.advance(MINUTE);
    assert_eq!((get(&one).await, get(&other).await), (None, None));
}

#[tokio::test]
async fn value_with_a_life_of_its_own_ends_with_that() {
    let world = World::new();
    let cache = world.process().await;
    world
        .load(&cache, Loaded::new("brief".to_owned()).ttl(SECOND))
        .await;
    assert_eq!(get(&cache).await.as_deref(), Some("brief"));
    world.hand.advance(SECOND);
    assert_eq!(get(&cache).await, None);
    world
        .load(
            &cache,
            Loaded::new("not kept".to_owned()).ttl(Duration::ZERO),
        )
        .await;
    assert_eq!(get(&cache).await, None);
}

/// P21 tags-pinned-in-time: the tag is pinned for no entry from before its invalidation.
#[tokio::test]
async fn tagged_value_is_gone_with_its_tag_in_every_process() {
    let world = World::new();
    let (larder, other) = (world.larder().await, world.process().await);
    let one: Items = larder.cache("item").unwrap();
    world
        .load(&one, Loaded::new("old".to_owned()).tag("org:7"))
        .await;
    assert_eq!(world.load(&other, "not this".to_owned()).await, "old");
    larder.invalidate_tag("org:7").await.unwrap();
    assert_eq!((get(&one).await, get(&other).await), (None, None));
}

/// P15 writer-ends-by-compare: the written value takes the place of the loaded one in all levels.
#[tokio::test]
async fn written_value_replaces_the_loaded_one_everywhere() {
    let world = World::new();
    let (one, other) = (world.process().await, world.process().await);
    world.load(&one, "old".to_owned()).await;
    world.load(&other, "old".to_owned()).await;
    let written = one.write_through("k", || async { Ok::<_, Infallible>("new".to_owned()) });
    assert_eq!(written.await.unwrap().as_str(), "new");
    assert_eq!(get(&one).await.as_deref(), Some("new"));
    assert_eq!(get(&other).await.as_deref(), Some("new"));
    let deleted = one.write_around("k", || async { Ok::<_, Infallible>(1) });
    assert_eq!(deleted.await.unwrap(), 1);
    assert_eq!((get(&one).await, get(&other).await), (None, None));
}

#[tokio::test]
async fn cleared_policy_is_empty_in_every_process() {
    let world = World::new();
    let (one, other) = (world.process().await, world.process().await);
    world.load(&one, "old".to_owned()).await;
    world.load(&other, "old".to_owned()).await;
    one.clear().await.unwrap();
    assert_eq!((get(&one).await, get(&other).await), (None, None));
}

#[tokio::test]
async fn refresh_loads_although_the_levels_have_a_value() {
    let world = World::new();
    let (one, other) = (world.process().await, world.process().await);
    world.load(&one, "old".to_owned()).await;
    world.load(&other, "old".to_owned()).await;
    let refreshed = one.refresh("k", || async { Ok::<_, Infallible>("new".to_owned()) });
    assert_eq!(refreshed.await.unwrap().as_str(), "new");
    assert_eq!(
        (get(&one).await.as_deref(), get(&other).await.as_deref()),
        (Some("new"), Some("new"))
    );
}

#[tokio::test]
async fn absence_is_remembered_only_where_the_policy_says_so() {
    for (remembered, policy) in [
        (false, World::new()),
        (true, World::with(|p| p.negative_ttl(MINUTE))),
    ] {
        let (world, loads) = (policy, Arc::new(AtomicUsize::new(0)));
        let cache = world.process().await;
        for _ in 0..2 {
            let loads = loads.clone();
            let loader = || async move {
                loads.fetch_add(1, Ordering::Relaxed);
                Ok::<Option<String>, Infallible>(None)
            };
            assert_eq!(cache.find_or_load("k", loader).await.unwrap(), None);
        }
        assert_eq!(
            loads.load(Ordering::Relaxed),
            if remembered { 1 } else { 2 }
        );
    }
}
