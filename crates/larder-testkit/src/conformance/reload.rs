use std::time::Duration;

use larder_core::{Claim, Digest, Replacing, Token, Track};

use super::process::Process;

const LEASE: Duration = Duration::from_secs(60);
const LIFE: Duration = Duration::from_secs(600);

/// Checks loads that replace a value.
pub(super) async fn conform(one: &Process, other: &Process) {
    value_that_was_seen_lives_on(one, other).await;
    value_that_was_seen_is_removed(one, other).await;
    touch_under_a_lost_lease_or_of_another_value_changes_nothing(one, other).await;
    value_that_may_have_ended_is_replaced_though_it_is_gone(one, other).await;
}

/// Stores the value "seen" and takes the lease for its reload.
async fn lease(process: &Process, key: &str) -> (Token, Digest) {
    let (token, seen) = (Token::new(), Digest::of(b"seen"));
    process.fill(key, "seen").await;
    let claim = process
        .store
        .claim(key, &token, LEASE, Replacing::Value(&seen), Track::Value)
        .await
        .expect("claim");
    assert_eq!(
        claim,
        Claim::Leased,
        "who has seen the value may replace it"
    );
    (token, seen)
}

async fn value_that_was_seen_lives_on(one: &Process, other: &Process) {
    let key = "r1:1";
    let (token, seen) = lease(one, key).await;
    assert_eq!(other.read(key).await.as_deref(), Some("seen"));
    other.forget();
    assert!(
        one.store
            .touch(key, &token, &seen, LIFE, Track::Value)
            .await
            .expect("touch")
            .is_done()
    );
    other.hears("value r1:1").await; // its life in L1 ends with the one that it had
    let found = other
        .store
        .get_with_ttl(key, Track::Value)
        .await
        .expect("get")
        .expect("it lives on");
    assert_eq!(&found.value[..], b"seen");
    let rest = found.ttl.expect("it ends");
    assert!(
        rest > LIFE - Duration::from_secs(60) && rest <= LIFE,
        "{rest:?}"
    );
    let next = other
        .store
        .claim(
            key,
            &Token::new(),
            LEASE,
            Replacing::Value(&seen),
            Track::Value,
        )
        .await
        .expect("claim");
    assert_eq!(next, Claim::Leased, "the lease was given up");
    other.invalidate(key).await;
}

async fn value_that_was_seen_is_removed(one: &Process, other: &Process) {
    let key = "r4:1";
    let (token, seen) = lease(one, key).await;
    assert_eq!(other.read(key).await.as_deref(), Some("seen"));
    other.forget();
    assert!(
        one.store
            .touch(key, &token, &seen, Duration::ZERO, Track::Value)
            .await
            .expect("touch")
            .is_done()
    );
    other.hears("value r4:1").await;
    assert_eq!(other.read(key).await, None);
}

async fn touch_under_a_lost_lease_or_of_another_value_changes_nothing(
    one: &Process,
    other: &Process,
) {
    let key = "r2:1";
    let (token, seen) = lease(one, key).await;
    other.invalidate(key).await;
    assert!(
        !one.store
            .touch(key, &token, &seen, LIFE, Track::Value)
            .await
            .expect("touch")
            .is_done(),
        "P3 clean-lease-commits: invalidated"
    );
    assert_eq!(other.read(key).await, None);

    let (token, _) = lease(one, key).await;
    let foreign = Digest::of(b"something else");
    assert!(
        !one.store
            .touch(key, &token, &foreign, LIFE, Track::Value)
            .await
            .expect("touch")
            .is_done(),
        "P3 clean-lease-commits: another value"
    );
    let next = other
        .store
        .claim(key, &Token::new(), LEASE, Replacing::Nothing, Track::Value)
        .await
        .expect("claim");
    assert!(matches!(next, Claim::Hit(_)), "the value is as it was");
    other.invalidate(key).await;
}

async fn value_that_may_have_ended_is_replaced_though_it_is_gone(one: &Process, other: &Process) {
    let key = "r3:1";
    let (token, seen) = lease(one, key).await;
    let (store, track) = (&one.store, Track::Value);
    let (value, ended) = (Replacing::Value(&seen), Replacing::Ended(&seen));
    let done = store
        .commit(key, &token, b"better", LIFE, ended, track)
        .await
        .expect("commit")
        .is_done();
    assert!(done, "it is still there");
    assert_eq!(other.read(key).await.as_deref(), Some("better"));

    let token = Token::new();
    other.invalidate(key).await;
    assert_eq!(
        store
            .claim(key, &token, LEASE, value, track)
            .await
            .expect("claim"),
        Claim::Leased
    );
    let done = store
        .commit(key, &token, b"next", LIFE, ended, track)
        .await
        .expect("commit")
        .is_done();
    assert!(done, "it is gone");

    let token = Token::new();
    other.invalidate(key).await;
    assert_eq!(
        store
            .claim(key, &token, LEASE, value, track)
            .await
            .expect("claim"),
        Claim::Leased
    );
    let done = store
        .commit(key, &token, b"late", LIFE, value, track)
        .await
        .expect("commit")
        .is_done();
    assert!(
        !done,
        "P3 clean-lease-commits: it cannot have ended, so it was deleted"
    );
    other.invalidate(key).await;
}
