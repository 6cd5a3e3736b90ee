//! Single reads that are under way at the same time, and so go together over their lane.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use futures_util::{FutureExt, future::join_all};
use larder_core::{Lanes, StoreError, Track, ValueStore};
use larder_redis::{RedisConfig, RedisStore};
use larder_testkit::{Direction, Proxy};
use tokio::{
    runtime::Builder,
    time::{Instant, timeout},
};

use crate::support::{
    wait::{BOUND, start},
    world::World,
};

/// More than go together at once.
const MANY: usize = 300;

/// A store with one lane, through a proxy that lets nothing pass in this direction; the server has
/// `k`.
async fn stalled(direction: Direction) -> (World, Proxy, Arc<RedisStore>) {
    let world = World::new().await;
    world.server.command(&["SET", "k", "v"]).await.unwrap();
    let proxy = world.proxy().await;
    let config = RedisConfig::new(proxy.url())
        .lanes(1)
        .command_timeout(BOUND);
    let store = Arc::new(RedisStore::connect(config).await.unwrap());
    proxy.stall(direction, true);
    (world, proxy, store)
}

/// Sets a value with an expiry, one without, a value of another type, and none, in turn.
async fn fill(world: &World) {
    for n in 0..MANY {
        let (key, value, ttl) = (
            format!("k:{n}"),
            format!("v:{n}"),
            (1_000 * (n + 1)).to_string(),
        );
        match n % 4 {
            0 => drop(
                world
                    .server
                    .command(&["SET", &key, &value, "EX", &ttl])
                    .await
                    .unwrap(),
            ),
            1 => drop(world.server.command(&["SET", &key, &value]).await.unwrap()),
            2 => drop(
                world
                    .server
                    .command(&["HSET", &key, "field", &value])
                    .await
                    .unwrap(),
            ),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_read_gets_the_answer_that_is_its_own() {
    let world = World::new().await;
    let store = RedisStore::connect(world.config().lanes(1)).await.unwrap();
    fill(&world).await;
    let read = async |n: usize, with_ttl: bool| {
        let key = format!("k:{n}");
        let read = match with_ttl {
            true => store
                .get_with_ttl(&key, Track::Value)
                .await
                .map(|read| read.map(|read| (read.value, read.ttl))),
            false => store
                .get(&key)
                .await
                .map(|read| read.map(|value| (value, None))),
        };
        match (n % 4, read) {
            (0, Ok(Some((value, ttl)))) => {
                assert_eq!(value, format!("v:{n}"));
                let most = Duration::from_secs(1_000 * (n as u64 + 1));
                assert!(
                    !with_ttl || ttl.is_some_and(|ttl| ttl <= most && ttl > most - BOUND),
                    "{key}: {ttl:?}"
                );
            }
            (1, Ok(Some((value, ttl)))) => {
                assert_eq!((&*value, ttl), (format!("v:{n}").as_bytes(), None))
            }
            (2, Err(StoreError::WrongType { key: named })) => assert_eq!(named, key),
            (3, Ok(None)) => {}
            (_, read) => panic!("{key}: {read:?}"),
        }
    };
    for _ in 0..10 {
        join_all((0..MANY).map(|n| read(n, n % 3 == 0))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_leaves_those_whose_reads_went_with_it() {
    let (_world, proxy, store) = stalled(Direction::ToServer).await;
    let read = || {
        let store = store.clone();
        start(async move { store.get("k").await })
    };
    // The first goes alone, and the second is the first of those that go together.
    let (alone, first, others) = (read(), read(), [read(), read()]);
    alone.abort();
    first.abort();
    assert!(alone.await.unwrap_err().is_cancelled() && first.await.unwrap_err().is_cancelled());
    proxy.stall(Direction::ToServer, false);
    for read in others.into_iter().chain([read()]) {
        assert_eq!(read.await.unwrap().unwrap().unwrap(), "v");
    }
}

/// A group of reads is sent by the runtime that has the connection, whichever read is first.
#[tokio::test(flavor = "multi_thread")]
async fn runtime_that_ends_leaves_the_reads_of_another() {
    let (_world, proxy, store) = stalled(Direction::ToServer).await;
    let read = || {
        let store = store.clone();
        async move { store.get("k").await }
    };
    let alone = start(read());
    let (first, (started, is_started), (joined, is_joined)) =
        (read(), mpsc::channel(), mpsc::channel());
    let brief = std::thread::spawn(move || {
        let brief = Builder::new_current_thread().enable_all().build().unwrap();
        brief.block_on(async { drop(start(first)) });
        started.send(()).unwrap();
        is_joined.recv().unwrap();
    });
    is_started.recv().unwrap();
    let other = start(read());
    joined.send(()).unwrap();
    brief.join().unwrap();
    proxy.stall(Direction::ToServer, false);
    for read in [alone, other] {
        assert_eq!(
            timeout(BOUND, read)
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .unwrap(),
            "v"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn read_over_a_connection_whose_runtime_has_ended_is_an_error() {
    let world = World::new().await;
    let proxy = world.proxy().await;
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let config = RedisConfig::new(proxy.url())
        .lanes(1)
        .command_timeout(BOUND);
    let store = Arc::new(
        runtime
            .spawn(RedisStore::connect(config))
            .await
            .unwrap()
            .unwrap(),
    );
    proxy.stall(Direction::ToServer, true);
    let mut alone = Box::pin(store.get("k"));
    assert!(
        alone.as_mut().now_or_never().is_none(),
        "it waits, and is under way until it is polled again"
    );
    runtime.shutdown_background();
    let (done, is_done) = mpsc::channel();
    std::thread::spawn({
        let store = store.clone();
        move || {
            let here = Builder::new_current_thread().enable_all().build().unwrap();
            let _ = done.send(here.block_on(async { store.get("k").await }));
        }
    });
    let read = tokio::task::spawn_blocking(move || is_done.recv_timeout(BOUND))
        .await
        .unwrap();
    assert!(
        matches!(read, Ok(Err(StoreError::Unreachable { .. }))),
        "{read:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_is_told_at_once_to_all_who_read_over_it() {
    let (_world, proxy, store) = stalled(Direction::ToClient).await;
    let reads: Vec<_> = (0..MANY)
        .map(|n| {
            let store = store.clone();
            start(async move { store.get_with_ttl(&format!("k:{n}"), Track::Value).await })
        })
        .collect();
    let cut = Instant::now();
    proxy.cut();
    for read in reads {
        let lost = read.await.unwrap();
        assert!(
            matches!(lost, Err(StoreError::Unreachable { .. })),
            "{lost:?}"
        );
    }
    assert!(
        cut.elapsed() < BOUND / 2,
        "not by a time-out: {:?}",
        cut.elapsed()
    );
    assert_eq!(store.stats().lanes_lost, 1);
}
