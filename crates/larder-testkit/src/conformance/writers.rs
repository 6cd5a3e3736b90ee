use std::time::Duration;

use larder_core::{Claim, Invalidated, Key, Token, WriteClaim};

use super::process::Process;

const LEASE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(60);
const BOUND: Duration = Duration::from_secs(10);

/// Checks that a writer is alone with its key, and leaves nothing that is older than its write.
pub(super) async fn conform(one: &Process, other: &Process) {
    writer_breaks_a_readers_lease_and_keeps_out_other_writers(one, other).await;
    invalidated_writer_keeps_its_lease_and_cannot_commit(one, other).await;
    marked_lease_of_a_dead_writer_ends_by_its_time(one, other).await;
    writer_that_withdraws_leaves_nothing(one, other).await;
}

async fn writer_breaks_a_readers_lease_and_keeps_out_other_writers(one: &Process, other: &Process) {
    let (key, reader, writer) = ("t5:1", Token::new(), Token::new());
    assert_eq!(one.claim(key, &reader).await, Claim::Leased);
    assert_eq!(other.begin_write(key, &writer).await, WriteClaim::Leased);
    assert!(
        !one.commit(key, &reader, "old").await,
        "P6 one-writer-first: a reader does not commit under a writer"
    );
    assert!(
        matches!(one.claim(key, &Token::new()).await, Claim::Busy(_)),
        "the writer's lease stands"
    );
    let second = one.begin_write(key, &Token::new()).await;
    assert!(
        matches!(second, WriteClaim::Busy(rest) if rest <= LEASE),
        "one writer at a time: {second:?}"
    );
    assert!(other.commit(key, &writer, "new").await);
    one.fill(key, "newer").await;
    let third = Token::new();
    assert_eq!(other.begin_write(key, &third).await, WriteClaim::Leased);
    assert_eq!(
        one.read(key).await,
        None,
        "the value is gone before the database is written"
    );
    assert!(other.store.release(key, &third).await.expect("release"));
}

async fn invalidated_writer_keeps_its_lease_and_cannot_commit(one: &Process, other: &Process) {
    let (key, writer) = ("t6:1", Token::new());
    assert_eq!(one.begin_write(key, &writer).await, WriteClaim::Leased);
    other.invalidate(key).await;
    let claim = other.claim(key, &Token::new()).await;
    assert!(
        matches!(claim, Claim::Busy(_)),
        "P6 one-writer-first: the writer may still write its database: {claim:?}"
    );
    let begun = other.begin_write(key, &Token::new()).await;
    assert!(
        matches!(begun, WriteClaim::Busy(_)),
        "P6 one-writer-first: {begun:?}"
    );
    assert!(
        one.store.renew(key, &writer, LEASE).await.expect("renew"),
        "P6 one-writer-first: it is renewed"
    );
    assert!(
        !one.commit(key, &writer, "?").await,
        "P5 invalidation-marks-writers: the order of the writes is not known"
    );
    assert_eq!(
        other.claim(key, &writer).await,
        Claim::Leased,
        "the refused commit gave the lease up"
    );
    assert!(other.store.release(key, &writer).await.expect("release"));
}

async fn marked_lease_of_a_dead_writer_ends_by_its_time(one: &Process, other: &Process) {
    let (key, next) = ("t6:2", Token::new());
    let begun = one
        .store
        .begin_write(key, &Token::new(), SHORT * 10)
        .await
        .expect("begin_write");
    assert_eq!(begun, WriteClaim::Leased);
    other.invalidate(key).await;
    let give_up = tokio::time::Instant::now() + BOUND;
    while let Claim::Busy(rest) = other.claim(key, &next).await {
        assert!(
            rest <= SHORT * 10,
            "P6 one-writer-first: the rest is {rest:?}"
        );
        assert!(
            tokio::time::Instant::now() < give_up,
            "P6 one-writer-first: a marked lease has no end"
        );
        tokio::time::sleep(rest + Duration::from_millis(1)).await;
    }
    assert!(other.store.release(key, &next).await.expect("release"));
}

async fn writer_that_withdraws_leaves_nothing(one: &Process, other: &Process) {
    let (key, writer) = ("t7:1", Token::new());
    for dirty in [false, true] {
        assert_eq!(one.begin_write(key, &writer).await, WriteClaim::Leased);
        if dirty {
            other.invalidate(key).await;
        }
        let done = one
            .store
            .invalidate(&Key::from_stored_name(key), Some(&writer))
            .await
            .expect("invalidate");
        assert_eq!(done, Invalidated::Done);
        assert_eq!(other.read(key).await, None);
    }
    let reader = Token::new();
    assert_eq!(
        other.claim(key, &reader).await,
        Claim::Leased,
        "the lease is gone too"
    );
    assert!(other.store.release(key, &reader).await.expect("release"));
}
