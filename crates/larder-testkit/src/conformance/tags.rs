use std::time::Duration;

use larder_core::{Invalidated, LaneIndex, TagEpoch};
use tokio::time::Instant;

use super::process::Process;

const TTL: Duration = Duration::from_secs(600);
const BOUND: Duration = Duration::from_secs(10);
const LANE: LaneIndex = LaneIndex(0);

/// Checks pinned and invalidated tags.
pub(super) async fn conform(one: &Process, other: &Process) {
    tag_is_held_only_if_none_was_invalidated_since(one, other).await;
    held_tag_keeps_its_number_and_an_invalidated_one_is_gone(one, other).await;
    both_are_told_of_an_invalidated_tag(one, other).await;
    tags_live_at_least_as_long_as_they_are_held_for(one).await;
}

async fn tag_epoch(process: &Process) -> TagEpoch {
    process.store.tag_epoch(LANE).await.expect("tag_epoch")
}

async fn hold(process: &Process, epoch: TagEpoch, tags: &[&str]) -> Vec<Option<TagEpoch>> {
    process
        .store
        .pin_tags(LANE, tags, epoch, TTL)
        .await
        .expect("pin_tags")
}

async fn invalidate(process: &Process, tag: &str) {
    assert_eq!(
        process
            .store
            .invalidate_tag(tag)
            .await
            .expect("invalidate_tag"),
        Invalidated::Done
    );
}

async fn tag_is_held_only_if_none_was_invalidated_since(one: &Process, other: &Process) {
    let before = tag_epoch(one).await;
    assert_eq!(tag_epoch(other).await, before, "E is one for all");
    invalidate(other, "g1:other").await;
    let after = tag_epoch(one).await;
    assert!(after > before, "E grows with each invalidation");
    let held = hold(one, before, &["g1:a"]).await;
    assert_eq!(
        held,
        [None],
        "P23 tags-pinned-before-commit: nobody knows whether the tag was invalidated meanwhile"
    );
    assert_eq!(
        hold(one, after, &["g1:a", "g1:b"]).await,
        [Some(after), Some(after)]
    );
    let tags = other
        .store
        .tags(LANE, &["g1:b", "g1:none", "g1:a"])
        .await
        .expect("tags");
    assert_eq!(tags, [Some(after), None, Some(after)]);
}

async fn held_tag_keeps_its_number_and_an_invalidated_one_is_gone(one: &Process, other: &Process) {
    let first = tag_epoch(one).await;
    assert_eq!(hold(one, first, &["g2"]).await, [Some(first)]);
    invalidate(one, "g2:other").await;
    let second = tag_epoch(other).await;
    assert_eq!(
        hold(other, second, &["g2"]).await,
        [Some(first)],
        "entries of before stay valid"
    );
    invalidate(other, "g2").await;
    assert_eq!(one.store.tags(LANE, &["g2"]).await.expect("tags"), [None]);
    assert_eq!(
        hold(one, second, &["g2"]).await,
        [None],
        "P23 tags-pinned-before-commit: a load of before is refused"
    );
    let third = tag_epoch(one).await;
    assert_eq!(
        hold(one, third, &["g2"]).await,
        [Some(third)],
        "a load of after is not"
    );
    assert!(third > second);
}

async fn both_are_told_of_an_invalidated_tag(one: &Process, other: &Process) {
    let held_at = tag_epoch(one).await;
    hold(one, held_at, &["g3"]).await;
    other.store.tags(LANE, &["g3"]).await.expect("tags");
    tag_epoch(other).await;
    for (teller, hearer) in [(other, one), (one, other)] {
        let held_at = tag_epoch(hearer).await;
        hold(hearer, held_at, &["g3"]).await;
        hearer.store.tags(LANE, &["g3"]).await.expect("tags");
        hearer.forget();
        invalidate(teller, "g3").await;
        hearer.hears("tag 0 g3").await; // P24 tags-known-by-lane
        hearer.hears("order 0").await;
    }
}

async fn tags_live_at_least_as_long_as_they_are_held_for(one: &Process) {
    let (now, short) = (tag_epoch(one).await, Duration::from_millis(30));
    let held = one
        .store
        .pin_tags(LANE, &["g4"], now, short)
        .await
        .expect("pin_tags");
    assert_eq!(held, [Some(now)]);
    assert_eq!(
        hold(one, now, &["g4"]).await,
        [Some(now)],
        "P21 tags-pinned-in-time: extended for a longer life"
    );
    // A tag that was pinned later, and for the short time alone, is gone: so the short time is
    // over.
    let pinned = one
        .store
        .pin_tags(LANE, &["g4:short"], now, short)
        .await
        .expect("pin_tags");
    assert_eq!(pinned, [Some(now)]);
    let give_up = Instant::now() + BOUND;
    while one.store.tags(LANE, &["g4:short"]).await.expect("tags") != [None] {
        assert!(
            Instant::now() < give_up,
            "P21 tags-pinned-in-time: a tag outlives its time"
        );
        tokio::time::sleep(short / 10).await;
    }
    assert_eq!(
        one.store.tags(LANE, &["g4"]).await.expect("tags"),
        [Some(now)]
    );
}
