//! Leases: their holders die, are late, or take too long.

use std::{convert::Infallible, sync::Arc, time::Duration};

use larder::Error;
use larder_core::{Claim, LeaseStore, Replacing, Token, Track};
use larder_testkit::Gate;
use larder_ttl::PolicyBuilder;
use tokio::time::Instant;

use crate::support::{
    aging::{Aging, Source},
    calls::{Items, get, gets, load, slow_load, start_load, value},
    gated::{Call, Gated, When},
    policy::{MINUTE, SECOND, ms, named, policy},
    wait::start,
    worker::Worker,
    world::World,
};

const LEASE: Duration = Duration::from_secs(1);

/// The policy `brief`, as the worker has it: its leases end soon after their process.
async fn brief(world: &World) -> Items {
    let brief = named("brief").lease(LEASE).max_wait(20 * SECOND);
    world.larder_of(&[brief]).await.cache("brief").unwrap()
}

/// A lease of a minute, which no caller waits for longer than 50 ms.
fn hasty() -> PolicyBuilder {
    policy().lease(MINUTE).max_wait(ms(50))
}

/// P14 no-wait-for-expiry-push: nobody announces that a dead process's lease has ended.
#[tokio::test(flavor = "multi_thread")]
async fn process_killed_in_a_load_is_replaced_within_the_lease() {
    let world = World::new().await;
    let mut doomed = Worker::start(&world.server.url()).await;
    doomed.tell("1 hang-load brief k").await;
    assert_eq!(doomed.line().await, "1 loading");
    let cache = brief(&world).await;
    doomed.kill().await;
    let start = Instant::now();
    assert_eq!(load(&cache, "k", "value").await, "value");
    println!(
        "taken over from a killed loader after {:?}, lease {LEASE:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < 10 * LEASE,
        "half of max_wait: {:?}",
        start.elapsed()
    );
    assert_eq!(
        world.l2("brief:k").await.as_deref(),
        Some("\"value\""),
        "and the value is cached"
    );
}

/// P6 one-writer-first, P18 failed-write-invalidates: the value was gone before the database was
/// touched.
#[tokio::test(flavor = "multi_thread")]
async fn process_killed_in_a_write_through_leaves_nothing_stale() {
    let world = World::new().await;
    let cache = brief(&world).await;
    load(&cache, "k", "old").await;
    let mut doomed = Worker::start(&world.server.url()).await;
    doomed.tell("1 hang-write brief k").await;
    assert_eq!(doomed.line().await, "1 writing");
    gets(&cache, "k", None).await;
    assert_eq!(world.l2("brief:k").await, None);
    doomed.kill().await; // its database write may have happened
    let start = Instant::now();
    assert_eq!(load(&cache, "k", "new").await, "new");
    println!(
        "taken over from a killed writer after {:?}, lease {LEASE:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() < 10 * LEASE,
        "half of max_wait: {:?}",
        start.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn load_that_takes_too_long_is_given_up_and_its_lease_is_free() {
    let world = World::new().await;
    let hasty = hasty().load_timeout(ms(100));
    let cache = world.cache(&hasty).await;
    let hang = || std::future::pending::<Result<String, Infallible>>();
    let ended = cache.get_or_load("k", hang).await;
    assert!(
        matches!(&ended, Err(Error::LoadTimedOut { after, .. }) if *after == Duration::from_millis(100)),
        "{ended:?}"
    );
    let start = Instant::now();
    let other = world.cache(&policy().lease(MINUTE)).await;
    assert_eq!(load(&other, "k", "value").await, "value");
    assert_eq!(
        world.l2("item:k").await.as_deref(),
        Some("\"value\""),
        "loaded under a lease of its own"
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "the lease of a minute was released"
    );
}

/// P16 only-for-earlier-callers: a value that was loaded without a lease is kept nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn caller_that_has_waited_long_enough_loads_by_itself_uncached() {
    let world = World::new().await;
    let (holder, hasty) = (world.store().await, world.cache(&hasty()).await);
    let token = Token::new();
    let claim = holder
        .claim(
            "item:k",
            &token,
            Duration::from_secs(60),
            Replacing::Nothing,
            Track::Value,
        )
        .await
        .unwrap();
    assert_eq!(claim, Claim::Leased);
    let start = Instant::now();
    assert_eq!(load(&hasty, "k", "mine").await, "mine");
    assert!(
        start.elapsed() >= Duration::from_millis(50),
        "it waited for max_wait: {:?}",
        start.elapsed()
    );
    assert_eq!(get(&hasty, "k").await, None, "kept nowhere");
    assert!(
        holder
            .commit(
                "item:k",
                &token,
                b"\"theirs\"",
                LEASE,
                Replacing::Nothing,
                Track::Value
            )
            .await
            .unwrap()
            .is_done()
    );
    assert_eq!(get(&hasty, "k").await.as_deref(), Some("theirs"));
}

/// Those who wait together for a lease load together too.
#[tokio::test(start_paused = true)]
async fn callers_that_have_waited_long_enough_share_one_load() {
    let world = Aging::new();
    let (cache, holder) = (world.cache(&hasty()).await, world.server.connect());
    holder
        .claim(
            "item:k",
            &Token::new(),
            Duration::from_secs(60),
            Replacing::Nothing,
            Track::Value,
        )
        .await
        .unwrap();
    let source = Source::open();
    let read = || {
        let (cache, source) = (cache.clone(), source.clone());
        start(async move { source.read(&cache, "k", "mine").await })
    };
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.extend((0..10).map(|_| read()));
        tokio::time::advance(Duration::from_millis(10)).await;
    }
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap(), "mine");
    }
    assert_eq!(source.loads(), 1);
}

/// P28 stale-only-while-current: who has waited long enough for another process's load, and then
/// finds the database down, has a stale value.
#[tokio::test(start_paused = true)]
async fn caller_that_has_waited_long_enough_is_served_the_stale_value_if_its_own_load_fails() {
    let world = Aging::new();
    let stale = hasty().stale_for(10 * MINUTE).soft_timeout(5 * SECOND);
    let (cache, other) = (world.cache(&stale).await, world.cache(&stale).await);
    Source::open().read(&cache, "k", "old").await.unwrap();
    world.advance(11);
    let held = Source::gated();
    let holding = {
        let (other, held) = (other.clone(), held.clone());
        start(async move { held.read(&other, "k", "new").await })
    };
    held.gate.reached().await;
    let failing = Source::open();
    assert_eq!(failing.fail(&cache, "k").await.unwrap(), "old");
    assert_eq!(failing.loads(), 1, "it has loaded by itself");
    held.gate.open();
    holding.await.unwrap().unwrap();
}

/// Leases that end at once and are taken again by others are waited for no longer than one that
/// does not end.
#[tokio::test(start_paused = true)]
async fn caller_that_finds_one_lease_after_the_other_taken_loads_by_itself() {
    let world = Aging::new();
    let remote = Gated::new(Arc::new(world.server.connect()));
    let (cache, others) = (
        world.cache_on(remote.clone(), &hasty()).await,
        world.server.connect(),
    );
    let mut holder = Token::new();
    others
        .claim("item:k", &holder, LEASE, Replacing::Nothing, Track::Value)
        .await
        .unwrap();
    let mut busy = remote.gate(Call::Claim, When::After);
    let waiting = start_load(&cache, "k", "mine");
    for _ in 0..5 {
        busy.reached().await;
        others.release("item:k", &holder).await.unwrap();
        holder = Token::new();
        others
            .claim("item:k", &holder, LEASE, Replacing::Nothing, Track::Value)
            .await
            .unwrap();
        tokio::time::advance(Duration::from_millis(10)).await;
        let next = remote.gate(Call::Claim, When::After);
        std::mem::replace(&mut busy, next).open();
    }
    let loaded = tokio::time::timeout(LEASE, waiting)
        .await
        .expect("it does not claim again")
        .unwrap();
    assert_eq!(**loaded.as_ref().unwrap(), "mine");
    assert_eq!(remote.calls(Call::Claim), 5, "claims within max_wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_load_keeps_its_lease_by_renewing_it() {
    let world = World::new().await;
    let (slow, other) = (brief(&world).await, brief(&world).await);
    let gate = Gate::new();
    let loading = slow_load(&slow, "k", "value", &gate);
    gate.reached().await;
    let waiting = slow_load(&other, "k", "must not be loaded", &gate);
    let start = Instant::now();
    while start.elapsed() < 2 * LEASE {
        let lease = world
            .server
            .command(&["GET", "larder:lease:{brief:k}"])
            .await
            .unwrap();
        assert!(
            lease.text().is_some_and(|holder| holder.starts_with('r')),
            "{lease:?} after {:?}",
            start.elapsed()
        );
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "value");
    assert_eq!(**waiting.await.unwrap().as_ref().unwrap(), "value");
    assert_eq!(gate.arrivals(), 1, "loads");
}

#[tokio::test(flavor = "multi_thread")]
async fn writer_that_waited_long_enough_gives_up_before_the_database_is_touched() {
    let world = World::new().await;
    let holder = world.store().await;
    let token = Token::new();
    holder
        .begin_write("item:k", &token, Duration::from_secs(60))
        .await
        .unwrap();
    let hasty = world.cache(&hasty()).await;
    let gate = Gate::new();
    let touched = gate.clone();
    let ended = hasty
        .write_through("k", || async move {
            touched.pass().await;
            value("x").await
        })
        .await;
    assert!(matches!(ended, Err(Error::WriteBusy { .. })), "{ended:?}");
    assert_eq!(gate.arrivals(), 0);
}

/// A writer that died holds its lease for the policy's `lease`, here the default of 10 s, and
/// others wait for that long.
#[tokio::test(flavor = "multi_thread")]
async fn writer_outwaits_the_lease_of_a_killed_writer_by_default() {
    let world = World::new().await;
    let mut doomed = Worker::start(&world.server.url()).await;
    doomed.tell("1 hang-write item k").await;
    assert_eq!(doomed.line().await, "1 writing");
    doomed.kill().await;
    let cache = world.items().await;
    let start = Instant::now();
    let written = cache.write_through("k", || value("next")).await;
    assert_eq!(**written.as_ref().unwrap(), "next");
    println!(
        "a writer took over from a killed one after {:?}",
        start.elapsed()
    );
    assert!(
        start.elapsed() > Duration::from_secs(5),
        "it had nothing to outwait: {:?}",
        start.elapsed()
    );
    assert_eq!(get(&cache, "k").await.as_deref(), Some("next"));
}
