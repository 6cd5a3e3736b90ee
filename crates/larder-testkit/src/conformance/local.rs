use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Clock, Entry, Generations, Key, LaneIndex, Life, LocalStore, ManualClock, Phase, PolicyIndex,
};

/// Holds a [`LocalStore`] to its contract.
///
/// `make` makes an empty store for about this many entries of weight 1 each, which checks its
/// entries against these generations and this clock.
///
/// ```
/// use std::sync::Arc;
///
/// use larder_moka::{Capacity, MokaMap, MokaStore};
/// use larder_testkit::conformance;
///
/// conformance::local_store(|entries, generations, clock| {
///     let map = MokaMap::new(Capacity::Entries(entries));
///     Arc::new(MokaStore::new(map, generations, clock))
/// });
/// ```
///
/// # Panics
/// If the store breaks a rule of the protocol; the message names the rule.
pub fn local_store(make: impl Fn(u64, Arc<Generations>, Clock) -> Arc<dyn LocalStore>) {
    let cases: [fn(&Case); 12] = [
        stored_entry_is_served,
        entry_past_its_end_is_not_served,
        aging_entry_says_its_phase,
        entry_with_an_outdated_stamp_is_not_served,
        late_fill_is_not_served,
        invalidation_wins_over_fills_at_the_same_time,
        newer_entry_replaces_the_older,
        removed_entry_is_gone_and_others_stay,
        absent_is_an_entry_too,
        entry_is_found_again_while_it_is_served,
        invalid_entry_is_removed_when_it_is_met,
        ended_entries_give_their_memory_back_unread,
    ];
    for case in cases {
        case(&Case::new(1000, &make));
    }
    full_store_stays_bounded(&Case::new(100, &make));
}

struct Case {
    store: Arc<dyn LocalStore>,
    generations: Arc<Generations>,
    clock: Clock,
    hand: ManualClock,
}

const LIFE: Duration = Duration::from_secs(60);

impl Case {
    fn new(
        entries: u64,
        make: &impl Fn(u64, Arc<Generations>, Clock) -> Arc<dyn LocalStore>,
    ) -> Self {
        let (clock, hand) = Clock::manual();
        let generations = Arc::new(Generations::new(1 << 16, 2, 2));
        Self {
            store: make(entries, generations.clone(), clock.clone()),
            generations,
            clock,
            hand,
        }
    }

    fn entry(&self, key: &Key, value: u32, life: Life) -> Entry {
        let stamp = self
            .generations
            .stamp(key.hash(), LaneIndex(1), PolicyIndex(1));
        Entry {
            value: Some(Arc::new(value)),
            life,
            stamp,
            tags: None,
            weight: 1,
        }
    }

    fn life(&self) -> Life {
        Life::until(self.clock.now() + LIFE)
    }

    fn insert(&self, key: &Key, value: u32) {
        self.store.insert(key, self.entry(key, value, self.life()));
    }

    fn get(&self, key: &Key) -> Option<u32> {
        let value = self
            .store
            .get(key.as_ref())?
            .0
            .value
            .expect("not a negative entry");
        Some(*value.downcast::<u32>().expect("the type that was stored"))
    }
}

fn key(n: u32) -> Key {
    Key::from_stored_name(format!("row:{n}").as_str())
}

fn stored_entry_is_served(case: &Case) {
    assert_eq!(case.get(&key(1)), None, "an empty store serves nothing");
    case.insert(&key(1), 7);
    assert_eq!(case.get(&key(1)), Some(7), "a stored entry is served");
    assert_eq!(case.get(&key(2)), None, "another key has no entry");
}

fn entry_past_its_end_is_not_served(case: &Case) {
    case.insert(&key(1), 7);
    case.hand.advance(LIFE - Duration::from_nanos(1));
    assert_eq!(
        case.get(&key(1)),
        Some(7),
        "an entry is served up to its end"
    );
    case.hand.advance(Duration::from_nanos(1));
    assert_eq!(
        case.get(&key(1)),
        None,
        "an entry is not served from its end on"
    );
}

fn aging_entry_says_its_phase(case: &Case) {
    let start = case.clock.now();
    let life = Life::new(start + LIFE, start + 2 * LIFE, start + 3 * LIFE);
    case.store.insert(&key(1), case.entry(&key(1), 7, life));
    for phase in [
        Some(Phase::Fresh),
        Some(Phase::Due),
        Some(Phase::Stale),
        None,
    ] {
        case.store.maintain();
        assert_eq!(
            case.store.get(key(1).as_ref()).map(|(_, phase)| phase),
            phase
        );
        case.hand.advance(LIFE);
    }
}

fn entry_with_an_outdated_stamp_is_not_served(case: &Case) {
    let invalidations: [fn(&Case); 3] = [
        |case| {
            case.generations.bump_key(key(1).hash());
            case.store.remove(key(1).as_ref());
        },
        |case| case.generations.bump_lane(LaneIndex(1)),
        |case| case.generations.bump_policy(PolicyIndex(1)),
    ];
    for invalidate in invalidations {
        case.insert(&key(1), 7);
        assert_eq!(case.get(&key(1)), Some(7));
        invalidate(case);
        assert_eq!(
            case.get(&key(1)),
            None,
            "P2 only-current-is-served: an entry with an outdated stamp is not served"
        );
    }
}

/// Two threads read a number and store it, while a third one writes larger numbers and invalidates.
fn invalidation_wins_over_fills_at_the_same_time(case: &Case) {
    const WRITES: u32 = 20_000;
    let (key, truth) = (key(1), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while truth.load(Ordering::Acquire) < WRITES {
                    let stamp = case
                        .generations
                        .stamp(key.hash(), LaneIndex(1), PolicyIndex(1));
                    let read = truth.load(Ordering::Acquire);
                    let entry = Entry {
                        stamp,
                        ..case.entry(&key, read, case.life())
                    };
                    case.store.insert(&key, entry);
                }
            });
        }
        let stale = (1..=WRITES).find_map(|written| {
            truth.store(written, Ordering::Release);
            case.generations.bump_key(key.hash());
            case.store.remove(key.as_ref());
            case.get(&key)
                .filter(|served| *served != written)
                .map(|served| (served, written))
        });
        truth.store(WRITES, Ordering::Release); // the readers end, also if the rule is broken
        assert_eq!(
            stale, None,
            "P2 only-current-is-served: what is served is older than what was written"
        );
    });
}

fn late_fill_is_not_served(case: &Case) {
    let late = case.entry(&key(1), 7, case.life());
    case.generations.bump_key(key(1).hash());
    case.store.remove(key(1).as_ref());
    case.store.insert(&key(1), late);
    assert_eq!(
        case.get(&key(1)),
        None,
        "P1 stamp-before-read: a fill that was under way when its key was invalidated is not served"
    );
}

fn newer_entry_replaces_the_older(case: &Case) {
    case.insert(&key(1), 7);
    case.insert(&key(1), 8);
    assert_eq!(case.get(&key(1)), Some(8), "the newer entry is served");
}

fn removed_entry_is_gone_and_others_stay(case: &Case) {
    case.insert(&key(1), 7);
    case.insert(&key(2), 8);
    case.store.remove(key(1).as_ref());
    case.store.remove(key(3).as_ref());
    assert_eq!((case.get(&key(1)), case.get(&key(2))), (None, Some(8)));
}

fn absent_is_an_entry_too(case: &Case) {
    let absent = Entry {
        value: None,
        ..case.entry(&key(1), 0, case.life())
    };
    case.store.insert(&key(1), absent);
    assert!(
        case.store
            .get(key(1).as_ref())
            .is_some_and(|(entry, _)| entry.value.is_none())
    );
}

fn entry_is_found_again_while_it_is_served(case: &Case) {
    let again = |n| case.store.get_uncounted(key(n).as_ref()).is_some();
    assert!(
        !again(1),
        "an empty store has nothing for a second look either"
    );
    case.insert(&key(1), 7);
    case.insert(&key(2), 7);
    assert!(
        again(1) && again(2),
        "what was stored between two looks is found by the second"
    );
    case.store.remove(key(1).as_ref());
    assert!(!again(1), "a removed entry is not found by a second look");
    case.hand.advance(LIFE);
    assert!(
        !again(2),
        "an entry past its end is not found by a second look"
    );
}

fn invalid_entry_is_removed_when_it_is_met(case: &Case) {
    case.insert(&key(1), 7);
    case.generations.bump_lane(LaneIndex(1));
    case.store.maintain();
    assert_eq!(case.store.len(), 1, "nobody has looked yet");
    assert_eq!(case.get(&key(1)), None);
    case.store.maintain();
    assert!(
        case.store.is_empty(),
        "an entry that is not valid is removed when it is met"
    );
}

fn ended_entries_give_their_memory_back_unread(case: &Case) {
    (0..100).for_each(|n| case.insert(&key(n), n));
    case.store.maintain();
    assert_eq!(case.store.len(), 100);
    case.hand.advance(LIFE / 2);
    (0..10).for_each(|n| case.insert(&key(n), n));
    case.hand.advance(LIFE / 2 + Duration::from_secs(2));
    case.store.maintain();
    case.store.maintain();
    assert_eq!(
        case.store.len(),
        10,
        "what has ended goes, what was stored anew stays"
    );
    case.hand.advance(LIFE);
    case.store.maintain();
    case.store.maintain();
    assert!(
        case.store.is_empty(),
        "the memory of what has ended comes back"
    );
}

fn full_store_stays_bounded(case: &Case) {
    for n in 0..10_000 {
        case.insert(&key(n), n);
    }
    case.store.maintain();
    let held = (0..10_000).filter(|n| case.get(&key(*n)).is_some()).count();
    assert!(
        (1..=100).contains(&held),
        "a store for 100 entries holds {held}"
    );
}
