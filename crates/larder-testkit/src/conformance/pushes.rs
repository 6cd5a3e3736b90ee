use std::time::Duration;

use larder_core::{Claim, Committed, Digest, Replacing, Token, Track, Want, WriteClaim};

use super::process::Process;
use crate::eventually;

const TTL: Duration = Duration::from_secs(600);
const BOUND: Duration = Duration::from_secs(10);

/// Checks that each process is told of what it has read.
pub(super) async fn conform(one: &Process, other: &Process) {
    reader_is_told_of_another_process_write(one, other).await;
    committer_is_told_of_a_later_invalidation(one, other).await;
    commit_that_tracks_is_told_once_of_itself_and_of_what_comes_after(one, other).await;
    waiter_is_told_of_the_end_of_the_lease(one, other).await;
    caller_that_keeps_no_copy_reads_and_stores_the_same_values(one, other).await;
}

async fn reader_is_told_of_another_process_write(one: &Process, other: &Process) {
    let key = "t12:1";
    one.fill(key, "v1").await;
    for many in [false, true] {
        other.forget();
        if many {
            let (lane, track) = (other.store.lane(key), Track::Value);
            let read = other.store.get_many(lane, &[key], Want::Value, track).await;
            read.expect("get_many");
        } else {
            other.read(key).await;
        }
        one.invalidate(key).await;
        other.hears("value t12:1").await;
        one.fill(key, "v2").await;
    }
    other.forget();
    assert!(matches!(
        other.claim(key, &Token::new()).await,
        Claim::Hit(_)
    ));
    one.invalidate(key).await;
    other.hears("value t12:1").await;
}

async fn committer_is_told_of_a_later_invalidation(one: &Process, other: &Process) {
    let (key, token) = ("t14:1", Token::new());
    assert_eq!(one.claim(key, &token).await, Claim::Leased);
    assert!(one.commit(key, &token, "v").await);
    let holds = async |value: &str| {
        one.store
            .holds(key, &Digest::of(value.as_bytes()))
            .await
            .expect("holds")
    };
    assert!(!holds("another").await);
    assert!(holds("v").await);
    one.forget();
    other.invalidate(key).await;
    one.hears("value t14:1").await; // P4 l1-read-from-l2
    assert!(!holds("v").await);
}

/// P4 l1-read-from-l2: a commit that replies "tracked" has read the value that it wrote. Its
/// own push, if there is one, came before the reply, and once.
async fn commit_that_tracks_is_told_once_of_itself_and_of_what_comes_after(
    one: &Process,
    other: &Process,
) {
    for (n, begin) in ["claim", "begin_write"].into_iter().enumerate() {
        let (key, token) = (format!("t19:{n}"), Token::new());
        match begin {
            "claim" => assert_eq!(one.claim(&key, &token).await, Claim::Leased),
            _ => assert_eq!(one.begin_write(&key, &token).await, WriteClaim::Leased),
        }
        one.read(&key).await; // what was pushed before is handled
        one.forget();
        let committed = one
            .store
            .commit(&key, &token, b"v", TTL, Replacing::Nothing, Track::Value)
            .await;
        let told = one.times(&format!("value {key}"));
        match committed.expect("commit") {
            Committed::Tracked { told: says } => assert_eq!(told, usize::from(says), "{begin}"),
            Committed::Stored => continue,
            Committed::Refused => panic!("nobody interferes"),
        }
        other.invalidate(&key).await;
        let again = || one.times(&format!("value {key}")) > told;
        assert!(
            eventually(BOUND, again).await,
            "{begin}: nobody tells of what came after the commit"
        );
    }
}

async fn waiter_is_told_of_the_end_of_the_lease(one: &Process, other: &Process) {
    let key = "t15:1";
    for end in ["commit", "release", "invalidate"] {
        let token = Token::new();
        assert_eq!(one.claim(key, &token).await, Claim::Leased);
        other.forget();
        assert!(matches!(
            other.claim(key, &Token::new()).await,
            Claim::Busy(_)
        ));
        match end {
            "commit" => assert!(one.commit(key, &token, "v").await),
            "release" => assert!(one.store.release(key, &token).await.expect("release")),
            _ => one.invalidate(key).await,
        }
        other.hears("lease t15:1").await;
        one.invalidate(key).await;
    }
    let writer = Token::new();
    assert_eq!(one.begin_write(key, &writer).await, WriteClaim::Leased);
    other.forget();
    assert!(matches!(
        other.begin_write(key, &Token::new()).await,
        WriteClaim::Busy(_)
    ));
    assert!(one.commit(key, &writer, "v").await);
    other.hears("lease t15:1").await;
}

/// P33 only-kept-is-tracked: tracking changes nothing but what a process is told of.
async fn caller_that_keeps_no_copy_reads_and_stores_the_same_values(
    one: &Process,
    other: &Process,
) {
    let (key, token) = ("t20:1", Token::new());
    let claim = async |process: &Process| {
        let (token, new) = (Token::new(), Replacing::Nothing);
        let claim = process.store.claim(key, &token, TTL, new, Track::Nothing);
        claim.await.expect("claim")
    };
    assert_eq!(one.store.get(key).await.expect("get"), None);
    assert_eq!(one.claim(key, &token).await, Claim::Leased);
    other.forget();
    assert!(matches!(claim(other).await, Claim::Busy(_)));
    let (new, track) = (Replacing::Nothing, Track::Nothing);
    let committed = one.store.commit(key, &token, b"v", TTL, new, track).await;
    assert_eq!(committed.expect("commit"), Committed::Stored);
    other.hears("lease t20:1").await; // P14 no-wait-for-expiry-push: what is waited for is tracked
    assert!(matches!(claim(other).await, Claim::Hit(stored) if stored.value == "v"));
    let (lane, want) = (one.store.lane(key), Want::ValueAndTtl);
    let keys = [key, "t20:none"];
    for process in [one, other] {
        assert_eq!(
            process.store.get(key).await.expect("get").as_deref(),
            Some(b"v".as_slice())
        );
        let stored = process.store.get_with_ttl(key, track).await.expect("get");
        assert!(stored.is_some_and(|stored| stored.value == "v" && stored.ttl.is_some()));
        let found = process
            .store
            .get_many(lane, &keys, want, track)
            .await
            .expect("get_many");
        assert!(found[0].as_ref().is_some_and(|stored| stored.ttl.is_some()) && found[1].is_none());
    }
}
