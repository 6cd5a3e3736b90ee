use super::*;
use crate::keys::{Namespace, PolicyName};

const ITEM: Key = Key(0);
const SHARED: Key = Key(120);

/// Each key was written at 10, 20 and 30 ms.
fn history(reads: &[Read], writes: &[Write]) -> History {
    let commit = |at| Commit {
        at: at * MILLISECOND,
        asked: at * MILLISECOND,
        node: None,
        by_hand: false,
    };
    let commits = vec![[10, 20, 30].map(commit).to_vec(); Key::COUNT];
    History {
        commits,
        reads: reads.to_vec(),
        writes: writes.to_vec(),
        ..History::default()
    }
}

fn read(node: u16, key: Key, version: u32, at_ms: u64) -> Read {
    Read {
        node,
        key,
        version,
        start: at_ms * MILLISECOND,
        end: (at_ms + 1) * MILLISECOND,
        refresh: false,
        heard: None,
    }
}

fn write(node: u16, key: Key, version: u32, at_ms: u64) -> Write {
    let at = at_ms * MILLISECOND;
    Write {
        node: Some(node),
        key,
        version,
        returned: at,
        told: Some(at),
    }
}

fn kinds(history: &History) -> Vec<Kind> {
    history
        .check()
        .violations
        .iter()
        .map(|violation| violation.kind)
        .collect()
}

#[test]
fn newest_and_overlapping_versions_are_good() {
    let reads = [
        read(0, ITEM, 3, 40),
        read(1, SHARED, 3, 40),
        read(0, ITEM, 0, 5),
        read(0, ITEM, 2, 31),
    ];
    let writes = [write(0, ITEM, 3, 35), write(0, SHARED, 3, 35)];
    let verdict = history(&reads, &writes).check();
    assert_eq!((verdict.violations, verdict.stale), (vec![], vec![]));
}

#[test]
fn version_that_did_not_exist_yet_is_found() {
    let far = Read {
        version: 4,
        ..read(0, ITEM, 3, 40)
    };
    assert_eq!(
        kinds(&history(&[read(0, ITEM, 3, 20), far], &[])),
        [Kind::FromTheFuture; 2]
    );
}

#[test]
fn read_older_than_a_write_of_its_own_process_is_found() {
    let since = 35 * MILLISECOND;
    let untold = Write {
        told: None,
        ..write(0, ITEM, 3, 35)
    };
    let reads = [
        read(0, ITEM, 2, 36),
        read(0, ITEM, 0, 99),
        read(1, ITEM, 2, 36),
        read(0, ITEM, 2, 34),
    ];
    assert_eq!(
        kinds(&history(&reads, &[untold])),
        [Kind::OlderThanOwnWrite { since }; 2]
    );
}

#[test]
fn read_of_l2_older_than_any_write_is_found() {
    let since = 35 * MILLISECOND;
    let foreign = Write {
        node: None,
        ..write(0, SHARED, 3, 35)
    };
    let reads = [read(0, SHARED, 2, 36), read(1, SHARED, 1, 36)];
    assert_eq!(
        kinds(&history(&reads, &[foreign])),
        [Kind::OlderThanL2 { since }; 2]
    );
}

#[test]
fn older_version_binds_as_well_as_the_newest() {
    let since = 25 * MILLISECOND;
    let reads = [read(1, SHARED, 1, 26), read(1, SHARED, 2, 26)];
    assert_eq!(
        kinds(&history(&reads, &[write(0, SHARED, 2, 25)])),
        [Kind::OlderThanL2 { since }]
    );
}

#[test]
fn read_of_l1_elsewhere_may_be_stale_for_as_long_as_a_push_takes() {
    let since = 35 * MILLISECOND;
    let stale = history(&[read(1, ITEM, 2, 45)], &[write(0, ITEM, 3, 35)]).check();
    assert_eq!(stale.violations, []);
    assert_eq!(
        stale.stale,
        [Stale {
            at: 45 * MILLISECOND,
            age: 10 * MILLISECOND,
            faulty: false
        }]
    );
    let late = history(&[read(1, ITEM, 2, 1_036)], &[write(0, ITEM, 3, 35)]);
    assert_eq!(kinds(&late), [Kind::ToldLongAgo { since }]);
}

#[test]
fn fault_gives_the_others_time_to_notice_it_and_no_more() {
    let since = 35 * MILLISECOND;
    let fault = Fault {
        kind: FaultKind::Deafness,
        node: Some(1),
        start: 30 * MILLISECOND,
        end: 530 * MILLISECOND,
    };
    let after = |at_ms| {
        let history = history(&[read(1, ITEM, 2, at_ms)], &[write(0, ITEM, 3, 35)]);
        History {
            faults: vec![fault.clone()],
            ..history
        }
    };
    assert_eq!(kinds(&after(3_535)), []);
    assert!(after(3_535).check().stale[0].faulty);
    assert_eq!(kinds(&after(3_536)), [Kind::ToldLongAgo { since }]);
    let own = History {
        writes: vec![write(1, ITEM, 3, 35)],
        ..after(40)
    };
    assert_eq!(kinds(&own), [Kind::OlderThanOwnWrite { since }]);
}

/// A server that lost data from 40 to 50 ms.
fn loss() -> Fault {
    Fault {
        kind: FaultKind::Snapshot,
        node: None,
        start: 40 * MILLISECOND,
        end: 50 * MILLISECOND,
    }
}

fn link(node: u16, start_ms: u64, end_ms: u64) -> Link {
    Link {
        node: Some(node),
        start: start_ms * MILLISECOND,
        end: end_ms * MILLISECOND,
    }
}

#[test]
fn write_does_not_bind_the_others_from_a_loss_until_its_process_is_connected_again() {
    let after = |read| History {
        faults: vec![loss()],
        links: vec![link(0, 1, 2), link(0, 45, 47), link(0, 60, 61)],
        ..history(&[read], &[write(0, SHARED, 3, 35)])
    };
    let since = 35 * MILLISECOND;
    for good in [read(1, SHARED, 2, 45), read(1, SHARED, 2, 60)] {
        assert_eq!(kinds(&after(good)), []);
    }
    let before = Read {
        end: 39 * MILLISECOND,
        ..read(1, SHARED, 2, 38)
    };
    assert_eq!(kinds(&after(before)), [Kind::OlderThanL2 { since }]);
    let again = 61 * MILLISECOND;
    let late = after(read(1, SHARED, 2, 62));
    assert_eq!(kinds(&late), [Kind::OlderThanL2 { since: again }]);
    let own = after(read(0, SHARED, 2, 45));
    assert_eq!(kinds(&own), [Kind::OlderThanOwnWrite { since }]);
}

#[test]
fn write_of_a_process_that_died_is_not_bound_to_come_back() {
    let mut history = History {
        faults: vec![loss()],
        links: vec![link(0, 30, 31), link(1, 60, 61)],
        deaths: [(0, 38 * MILLISECOND)].into(),
        ..history(&[read(1, SHARED, 2, 99)], &[write(0, SHARED, 3, 35)])
    };
    history.commits[SHARED.index()][2].node = Some(0);
    assert_eq!(kinds(&history), []);
    assert!(history.excuses(SHARED, 2) && !history.excuses(SHARED, 1));
    history.faults.clear();
    assert!(!history.excuses(SHARED, 2));
}

#[test]
fn invalidation_by_hand_that_failed_may_leave_an_older_value() {
    let mut history = history(&[], &[write(0, SHARED, 3, 35)]);
    let commit = &mut history.commits[SHARED.index()][2];
    (commit.node, commit.by_hand) = (Some(0), true);
    assert!(!history.excuses(SHARED, 2), "it returned");
    history.writes.clear();
    assert!(history.excuses(SHARED, 2) && !history.excuses(SHARED, 1));
    history.commits[SHARED.index()][2].by_hand = false;
    assert!(!history.excuses(SHARED, 2), "the write itself invalidates");
}

#[test]
fn write_that_died_before_it_returned_leaves_no_older_value() {
    let death = 5_000 * MILLISECOND;
    let mut history = History {
        deaths: [(0, death)].into(),
        ..history(&[read(1, SHARED, 2, 5_010)], &[])
    };
    let commit = &mut history.commits[SHARED.index()][2];
    (commit.node, commit.at) = (Some(0), 4_990 * MILLISECOND);
    commit.asked = 4_988 * MILLISECOND;
    assert_eq!(kinds(&history), [], "nobody knows whether it was connected");
    history.links = vec![link(0, 4_986, 4_987)];
    assert_eq!(kinds(&history), [Kind::OlderThanL2 { since: death }]);
    assert!(!history.excuses(SHARED, 2));
    // Connections were cut while it wrote: its own, or another one's.
    let cut = |node| Fault {
        kind: FaultKind::Cut,
        node: Some(node),
        start: 4_980 * MILLISECOND,
        end: 4_985 * MILLISECOND,
    };
    history.faults = vec![cut(1)];
    assert_eq!(kinds(&history), [Kind::OlderThanL2 { since: death }]);
    history.faults = vec![cut(0)];
    assert_eq!(kinds(&history), [Kind::OlderThanL2 { since: death }]);
    history.links = vec![link(0, 4_984, 4_987)];
    assert_eq!(kinds(&history), []);
    assert!(history.excuses(SHARED, 2));
    history.faults.clear();
    history.commits[SHARED.index()][2].by_hand = true;
    assert_eq!(kinds(&history), []);
    assert!(history.excuses(SHARED, 2));
}

#[test]
fn refresh_is_given_what_the_database_had_when_it_was_asked_for() {
    let refresh = |version, at_ms| Read {
        refresh: true,
        ..read(0, ITEM, version, at_ms)
    };
    let since = 30 * MILLISECOND;
    assert_eq!(kinds(&history(&[refresh(3, 31), refresh(2, 30)], &[])), []);
    assert_eq!(
        kinds(&history(&[refresh(2, 31)], &[])),
        [Kind::OlderThanRefresh { since }]
    );
}

#[test]
fn deaf_process_may_be_given_a_value_whose_tag_it_does_not_know_to_be_invalidated() {
    let deaf = |node| Fault {
        kind: FaultKind::Deafness,
        node: Some(node),
        ..loss()
    };
    let grouped = Key::of(Namespace::North, PolicyName::Grouped, 0);
    let after = |fault| History {
        faults: vec![fault],
        ..history(&[read(1, grouped, 2, 45)], &[write(0, grouped, 3, 35)])
    };
    let since = 35 * MILLISECOND;
    assert_eq!(kinds(&after(deaf(1))), []);
    assert_eq!(kinds(&after(deaf(0))), [Kind::OlderThanL2 { since }]);
}

#[test]
fn process_is_not_given_what_it_has_heard_to_be_replaced() {
    let asked = |key, heard_ms: u64| Read {
        heard: Some(heard_ms * MILLISECOND),
        ..read(1, key, 2, 45)
    };
    let writes = [write(0, ITEM, 3, 35), write(0, SHARED, 3, 35)];
    let since = 35 * MILLISECOND;
    let found = |reads: &[Read]| kinds(&history(reads, &writes));
    assert_eq!(found(&[asked(ITEM, 35), asked(SHARED, 35)]), []);
    assert_eq!(
        found(&[asked(ITEM, 36), asked(SHARED, 36)]),
        [Kind::ToldLongAgo { since }, Kind::OlderThanL2 { since }]
    );
}
