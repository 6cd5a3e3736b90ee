//! Races, each in an order that the test decides.

use std::time::Duration;

use larder::Levels;
use larder_core::{Key, Replacing, Token, Track};
use larder_testkit::Gate;

use crate::support::{
    calls::{Items, get, gets, load, slow_load, start_load, value},
    gated::{Call, Gated, When, gated, gated_cache},
    policy::{MINUTE, builder, ms, policy},
    world::{World, cache_of, nowhere, process_of},
};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(60);

/// P1 stamp-before-read: without a second level, the stamp alone refuses the late fill.
#[tokio::test(flavor = "multi_thread")]
async fn key_deleted_during_its_load_without_l2_is_not_cached() {
    let cache: Items = cache_of(builder()).await;
    let gate = Gate::new();
    let loading = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    cache.invalidate("k").await.unwrap();
    let new = start_load(&cache, "k", "new");
    gate.open();
    assert_eq!(**loading.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(
        **new.await.unwrap().as_ref().unwrap(),
        "new",
        "P2 only-current-is-served: an outdated flight is not joined"
    );
    assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
}

/// P16 only-for-earlier-callers: whoever comes after the deletion is not given what was loaded
/// before it, also in a process that has not heard of it yet.
#[tokio::test(flavor = "multi_thread")]
async fn refused_value_goes_only_to_those_who_came_before_its_load() {
    let world = World::new().await;
    let (store, _, cache) = gated(&world).await;
    let gate = Gate::new();
    let early = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    let late = start_load(&cache, "k", "new");
    let commit = store.gate(Call::Commit, When::Before);
    gate.open();
    commit.reached().await;
    world
        .store()
        .await
        .invalidate(&Key::from_stored_name("item:k"), None)
        .await
        .unwrap();
    commit.open();
    assert_eq!(**early.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**late.await.unwrap().as_ref().unwrap(), "new");
}

/// P1 stamp-before-read: the same for a value that another process stored between the look and the
/// claim.
#[tokio::test(flavor = "multi_thread")]
async fn claim_that_is_handled_after_the_push_does_not_enter_l1() {
    let world = World::new().await;
    let other = world.items().await;
    let (store, _, reader) = gated(&world).await;
    let (look, claim) = (
        store.gate(Call::Get, When::After),
        store.gate(Call::Claim, When::After),
    );
    let reading = slow_load(&reader, "k", "must not be loaded", &Gate::new());
    look.reached().await;
    load(&other, "k", "old").await;
    look.open();
    claim.reached().await;
    other.write_through("k", || value("new")).await.unwrap();
    store.hear("item:k").await;
    claim.open();
    assert_eq!(
        **reading.await.unwrap().as_ref().unwrap(),
        "old",
        "it was read before the write"
    );
    assert_eq!(get(&reader, "k").await.as_deref(), Some("new"));
}

/// P16 only-for-earlier-callers: in a policy without L1, nobody is given what another caller asked
/// for earlier.
#[tokio::test(flavor = "multi_thread")]
async fn read_of_l2_alone_does_not_share_an_earlier_look() {
    let world = World::new().await;
    let in_l2 = policy().levels(Levels::L2);
    let other = world.cache(&in_l2).await;
    load(&other, "k", "old").await;
    let (store, cache) = gated_cache(&world, &in_l2).await;
    for loads in [false, true] {
        other.insert("k", "old".to_owned()).await.unwrap();
        let reply = store.gate(Call::Get, When::After);
        let early = tokio::spawn({
            let cache = cache.clone();
            async move {
                if loads {
                    load(&cache, "k", "no").await
                } else {
                    get(&cache, "k").await.unwrap()
                }
            }
        });
        reply.reached().await;
        other.write_through("k", || value("new")).await.unwrap();
        assert_eq!(get(&cache, "k").await.as_deref(), Some("new"));
        assert_eq!(load(&cache, "k", "must not be loaded").await, "new");
        reply.open();
        assert_eq!(
            early.await.unwrap(),
            "old",
            "it was asked for before the write"
        );
    }
}

/// P16 only-for-earlier-callers: without L2 the stamp says whom a value is too old for.
#[tokio::test(flavor = "multi_thread")]
async fn load_without_l2_that_is_outdated_goes_only_to_those_who_came_before_it() {
    let cache: Items = cache_of(builder()).await;
    let gate = Gate::new();
    let early = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    let late = start_load(&cache, "k", "new");
    cache.invalidate("k").await.unwrap();
    gate.open();
    assert_eq!(**early.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**late.await.unwrap().as_ref().unwrap(), "new");
}

/// P16 only-for-earlier-callers: who did not wait any longer for another process loads for itself
/// and for those who were there before.
#[tokio::test(flavor = "multi_thread")]
async fn load_without_a_lease_goes_only_to_those_who_came_before_it() {
    let world = World::new().await;
    let (other, token) = (world.store().await, Token::new());
    other.begin_write("item:k", &token, LONG).await.unwrap();
    let cache: Items = world.cache(&policy().max_wait(ms(50))).await;
    let gate = Gate::new();
    let early = slow_load(&cache, "k", "old", &gate);
    gate.reached().await;
    let late = start_load(&cache, "k", "must not be loaded");
    assert!(
        other
            .commit(
                "item:k",
                &token,
                b"\"new\"",
                LONG,
                Replacing::Nothing,
                Track::Value
            )
            .await
            .unwrap()
            .is_done()
    );
    gate.open();
    assert_eq!(**early.await.unwrap().as_ref().unwrap(), "old");
    assert_eq!(**late.await.unwrap().as_ref().unwrap(), "new");
}

/// P1 stamp-before-read: a stamp is taken anew after a wait, or an invalidation during the wait
/// would cost the value its place in L1.
#[tokio::test(flavor = "multi_thread")]
async fn value_loaded_after_a_wait_is_kept_though_its_key_was_invalidated_meanwhile() {
    let world = World::new().await;
    let (other, token) = (world.store().await, Token::new());
    other.begin_write("item:k", &token, LONG).await.unwrap();
    let (store, cache) = gated_cache(&world, &policy().max_wait(MINUTE)).await;
    let busy = store.gate(Call::Claim, When::After);
    let reading = slow_load(&cache, "k", "value", &Gate::opened());
    busy.reached().await;
    cache.invalidate("k").await.unwrap();
    busy.open();
    other.release("item:k", &token).await.unwrap();
    assert_eq!(**reading.await.unwrap().as_ref().unwrap(), "value");
    let before = cache.stats().l1_hits;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("value"));
    assert_eq!(cache.stats().l1_hits, before + 1);
}

/// P9 reply-invalidates-again: a read between the call and its script must not survive the call.
#[tokio::test(flavor = "multi_thread")]
async fn value_read_before_an_invalidation_is_carried_out_is_not_served_after_it() {
    let world = World::new().await;
    load(&world.items().await, "k", "old").await;
    let (store, _, cache) = gated(&world).await;
    assert_eq!(get(&cache, "k").await.as_deref(), Some("old"));
    let sent = store.gate(Call::Invalidate, When::Before);
    let invalidating = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate("k").await }
    });
    sent.reached().await;
    let hits = cache.stats().l1_hits;
    assert_eq!(
        get(&cache, "k").await.as_deref(),
        Some("old"),
        "the script has not run yet"
    );
    assert_eq!(
        cache.stats().l1_hits,
        hits,
        "L1 is empty at once, however long L2 takes"
    );
    sent.open();
    invalidating.await.unwrap().unwrap();
    nowhere(&world, &[&cache], "k").await;
}

/// P9 reply-invalidates-again, P19 loads-end-with-callers: the reply is handled also when the
/// caller is gone.
#[tokio::test(flavor = "multi_thread")]
async fn invalidation_whose_caller_is_gone_is_carried_out() {
    let world = World::new().await;
    let (store, _, cache) = gated(&world).await;
    load(&cache, "k", "old").await;
    let done = store.gate(Call::Invalidate, When::After);
    let invalidating = tokio::spawn({
        let cache = cache.clone();
        async move { cache.invalidate("k").await }
    });
    done.reached().await;
    invalidating.abort();
    assert!(invalidating.await.is_err());
    done.open();
    gets(&cache, "k", None).await;
}

/// P9 reply-invalidates-again: a read between the call and its scan must not survive the call.
#[tokio::test(flavor = "multi_thread")]
async fn value_read_before_a_clear_is_carried_out_is_not_served_after_it() {
    let world = World::new().await;
    load(&world.items().await, "k", "old").await;
    let store = Gated::new(world.one_lane().await); // which tells nobody here of its own deletions
    let (larder, cache) = process_of(builder().remote_store(store.clone())).await;
    for all in [false, true] {
        load(&cache, "k", "old").await;
        let sent = store.gate(Call::Clear, When::Before);
        let clearing = tokio::spawn({
            let (cache, larder) = (cache.clone(), larder.clone());
            async move {
                if all {
                    larder.clear().await
                } else {
                    cache.clear().await
                }
            }
        });
        sent.reached().await;
        let hits = cache.stats();
        assert_eq!(
            get(&cache, "k").await.as_deref(),
            Some("old"),
            "the scan has not begun"
        );
        let (before, after) = (
            (hits.l1_hits, hits.l2_hits + 1),
            (cache.stats().l1_hits, cache.stats().l2_hits),
        );
        assert_eq!(after, before, "L1 is empty at once");
        sent.open();
        clearing.await.unwrap().unwrap();
        nowhere(&world, &[&cache], "k").await;
    }
}
