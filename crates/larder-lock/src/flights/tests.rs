use larder_core::{LaneIndex, PolicyIndex};

use super::*;

struct Table {
    generations: Generations,
    flights: Flights<u32>,
    key: Key,
}

impl Table {
    fn new() -> Self {
        Self {
            generations: Generations::new(8, 1, 1),
            flights: Flights::new(),
            key: Key::from_stored_name("k:1"),
        }
    }

    fn join(&self) -> Joined<u32> {
        self.flights.join(&self.key, &self.generations, || {
            self.generations
                .stamp(self.key.hash(), LaneIndex(0), PolicyIndex(0))
        })
    }

    fn leader(&self) -> (Leader<u32>, Follower<u32>) {
        match self.join() {
            Joined::Leader(leader, follower) => (leader, follower),
            Joined::Follower(_) => panic!("a flight is under way"),
        }
    }

    fn wait(&self) -> Follower<u32> {
        match self.join() {
            Joined::Follower(follower) => follower,
            Joined::Leader(..) => panic!("no flight is under way"),
        }
    }
}

#[tokio::test]
async fn caller_that_joins_after_something_was_asked_for_starts_over() {
    let table = Table::new();
    let (leader, first) = table.leader();
    leader.ask();
    let second = table.wait();
    let asked = leader.ask();
    let late = table.wait();
    leader.finish(7, asked);
    assert_eq!(
        (first.wait().await, second.wait().await),
        (Some(7), Some(7))
    );
    assert_eq!(late.wait().await, None);
    assert!(table.flights.is_empty());
}

#[tokio::test]
async fn who_is_late_for_a_flight_is_in_time_for_the_next_one() {
    let table = Table::new();
    let stamp = || {
        table
            .generations
            .stamp(table.key.hash(), LaneIndex(0), PolicyIndex(0))
    };
    let join_next = || {
        table
            .flights
            .join_next(&table.key, &table.generations, stamp)
    };
    let (Joined::Leader(first, in_time), None) = join_next() else {
        panic!("no flight is under way")
    };
    let (Joined::Follower(also_in_time), None) = join_next() else {
        panic!("nothing was asked for yet")
    };
    let asked = first.ask();
    let (Joined::Leader(next, late), Some(before)) = join_next() else {
        panic!("that is not for us")
    };
    let (Joined::Follower(later), None) = join_next() else {
        panic!("the next one has not asked yet")
    };
    table.generations.bump_key(table.key.hash());
    let (Joined::Follower(latest), None) = join_next() else {
        panic!("it will be restamped")
    };
    first.finish(1, asked);
    assert_eq!(
        (in_time.wait().await, also_in_time.wait().await),
        (Some(1), Some(1))
    );
    assert_eq!(before.wait().await, None);
    next.renew_stamp(stamp());
    let asked = next.ask();
    next.finish(2, asked);
    assert_eq!(
        (late.wait().await, later.wait().await, latest.wait().await),
        (Some(2), Some(2), Some(2))
    );
    assert!(table.flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_late_joins_a_flight_that_has_asked_since_it_came() {
    let table = Table::new();
    let join_expired = |came| {
        table.flights.join_expired(&table.key, came, || {
            table
                .generations
                .stamp(table.key.hash(), LaneIndex(0), PolicyIndex(0))
        })
    };
    let tick = async || {
        tokio::time::advance(Duration::from_millis(1)).await;
        Instant::now()
    };
    let came = tick().await;
    let Joined::Leader(leader, first) = join_expired(came) else {
        panic!("no flight is under way")
    };
    tick().await;
    let asked = leader.ask();
    let came_later = tick().await;
    table.generations.bump_key(table.key.hash());
    let Joined::Follower(second) = join_expired(came) else {
        panic!("it was asked for after that one came")
    };
    let Joined::Leader(..) = join_expired(came_later) else {
        panic!("it was asked for before that one came")
    };
    leader.finish(7, asked);
    assert_eq!(
        (first.wait().await, second.wait().await),
        (Some(7), Some(7))
    );
}

#[tokio::test]
async fn outdated_flight_is_not_joined_and_goes_on() {
    let table = Table::new();
    let (old, old_ticket) = table.leader();
    table.generations.bump_key(table.key.hash());
    let (new, new_ticket) = table.leader();
    old.finish_for_all(1);
    assert_eq!(old_ticket.wait().await, Some(1));
    let joined = table.wait();
    new.finish_for_all(2);
    assert_eq!(
        (new_ticket.wait().await, joined.wait().await),
        (Some(2), Some(2))
    );
}

#[tokio::test]
async fn flight_that_holds_off_is_joined_whatever_its_stamp_until_it_goes_on() {
    let table = Table::new();
    let (leader, first) = table.leader();
    leader.about_to_wait();
    table.generations.bump_key(table.key.hash());
    let late = table.wait();
    leader.renew_stamp(
        table
            .generations
            .stamp(table.key.hash(), LaneIndex(0), PolicyIndex(0)),
    );
    let asked = leader.ask();
    table.generations.bump_key(table.key.hash());
    let (_next, _ticket) = table.leader();
    leader.finish(7, asked);
    assert_eq!((first.wait().await, late.wait().await), (Some(7), Some(7)));
}

#[tokio::test]
async fn dropped_leader_makes_waiters_start_over() {
    let table = Table::new();
    let (leader, _ticket) = table.leader();
    let waiter = table.wait();
    drop(leader);
    assert_eq!(waiter.wait().await, None);
    table.leader();
}

#[tokio::test]
async fn last_caller_that_leaves_deserts_the_flight() {
    let table = Table::new();
    let (leader, first) = table.leader();
    let second = table.wait();
    drop(first);
    assert!(!leader.is_deserted());
    drop(second);
    leader.deserted().await;
    let (_new, _ticket) = table.leader();
}

#[tokio::test]
async fn flight_that_goes_on_is_joined_though_nobody_waits() {
    let table = Table::new();
    let (leader, first) = table.leader();
    first.go_on();
    drop(first);
    leader.unattended().await;
    assert!(!leader.is_deserted());
    let late = table.wait();
    assert!(!leader.is_unattended());
    leader.finish_for_all(7);
    assert_eq!(late.wait().await, Some(7));
}
