use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use larder_core::{Generations, Key, Stamp};
use tokio::{sync::Notify, time::Instant};

use crate::sync::lock;

/// Single flight: the reads and loads that run in this process, by key. A caller that asks for a
/// key joins the flight that is under way.
///
/// A caller joins a flight in one of these cases:
/// - The flight's stamp is current.
/// - The flight is waiting, and will renew its stamp after that.
/// - The caller came before the flight sent its first question.
///
/// A flight that began before an invalidation goes on for its callers. Later callers start a new
/// one beside it.
///
/// ```
/// use larder_core::{Generations, Key, LaneIndex, PolicyIndex};
/// use larder_lock::{Flights, Joined};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (flights, generations) = (Flights::new(), Generations::new(1024, 1, 1));
/// let key = Key::from_stored_name("user:42");
/// let stamp = || generations.stamp(key.hash(), LaneIndex::NONE, PolicyIndex(0));
///
/// let Joined::Leader(leader, _own) = flights.join(&key, &generations, stamp) else { panic!() };
/// let Joined::Follower(follower) = flights.join(&key, &generations, stamp) else { panic!() };
/// let asked = leader.ask(); // from now on, the answer is only for callers that have joined
/// leader.finish("Ada", asked);
/// assert_eq!(follower.wait().await, Some("Ada"));
/// # }
/// ```
pub struct Flights<V>(Arc<[Mutex<Shard<V>>]>);

type Shard<V> = HashMap<Key, Arc<Flight<V>>>;

const SHARDS: usize = 16;

/// How a caller takes part in a flight.
pub enum Joined<V> {
    /// The caller runs the flight, and waits for it like all others.
    Leader(Leader<V>, Follower<V>),
    /// Another caller runs it.
    Follower(Follower<V>),
}

/// The number of a flight's latest question, to a store or to a loader.
///
/// The answer may be older than a write that ends a moment later. So only callers that joined
/// before the question may have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadSeq(u64);

/// The right to run a flight. If its owner drops it without an outcome, the waiting callers start
/// over.
///
/// ```
/// # use larder_core::{Generations, Key, LaneIndex, PolicyIndex};
/// # use larder_lock::{Flights, Joined};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let (flights, generations) = (Flights::new(), Generations::new(1024, 1, 1));
/// # let key = Key::from_stored_name("user:42");
/// # let stamp = || generations.stamp(key.hash(), LaneIndex::NONE, PolicyIndex(0));
/// # let Joined::Leader(leader, own) = flights.join(&key, &generations, stamp) else { panic!() };
/// let asked = leader.ask(); // the loader is called
/// let Joined::Follower(late) = flights.join(&key, &generations, stamp) else { panic!() };
/// leader.finish("Ada", asked);
/// assert_eq!(own.wait().await, Some("Ada"));
/// assert_eq!(late.wait().await, None, "it came after the question, and starts over");
/// # }
/// ```
pub struct Leader<V> {
    flights: Flights<V>,
    key: Key,
    flight: Arc<Flight<V>>,
}

/// A caller's place in a flight. When the last follower is dropped, the flight ends, unless a
/// caller told it to [go on](Self::go_on).
///
/// ```
/// # use larder_core::{Generations, Key, LaneIndex, PolicyIndex};
/// # use larder_lock::{Flights, Joined};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # let (flights, generations) = (Flights::new(), Generations::new(1024, 1, 1));
/// # let key = Key::from_stored_name("user:42");
/// # let stamp = || generations.stamp(key.hash(), LaneIndex::NONE, PolicyIndex(0));
/// # let Joined::Leader(leader, own) = flights.join(&key, &generations, stamp) else { panic!() };
/// assert!(!leader.is_deserted());
/// drop(own); // the only caller does not wait any longer
/// leader.deserted().await; // so the load may be given up
/// # leader.finish_for_all("Ada");
/// # }
/// ```
pub struct Follower<V> {
    flight: Arc<Flight<V>>,
    joined: ReadSeq,
}

struct Flight<V> {
    began: Instant,
    state: Mutex<State<V>>,
    ended: Notify,
    /// The last caller that waited has gone.
    left: Notify,
    /// A caller came whose own load has taken one of the permits.
    uncounted: Notify,
}

struct State<V> {
    stamp: Stamp,
    /// Whether the stamp will be renewed before anything more is asked for.
    is_about_to_wait: bool,
    asked: ReadSeq,
    first_asked: Option<Instant>,
    waiting: usize,
    /// Whether it goes on although no caller waits.
    goes_on: bool,
    /// Whether it needs no permit of its own.
    is_uncounted: bool,
    end: Option<End<V>>,
}

enum End<V> {
    /// For callers that joined before this question.
    Outcome(V, ReadSeq),
    /// Its leader was dropped.
    Dropped,
}

impl<V: Clone> Flights<V> {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// Joins the key's flight if there is one whose stamp is current, else starts one with a new
    /// stamp.
    pub fn join(
        &self,
        key: &Key,
        generations: &Generations,
        stamp: impl FnOnce() -> Stamp,
    ) -> Joined<V> {
        self.enter(key, generations, stamp, |_| true).0
    }

    /// Like [`join`](Self::join), for a flight that sends a single question. A caller that comes
    /// after the question joins the next flight, or starts it. The next flight first waits for the
    /// running one, of which this call returns a follower too. Then its leader [renews the
    /// stamp](Leader::renew_stamp).
    pub fn join_next(
        &self,
        key: &Key,
        generations: &Generations,
        stamp: impl FnOnce() -> Stamp,
    ) -> (Joined<V>, Option<Follower<V>>) {
        self.enter(key, generations, stamp, |follower| {
            follower.joined == ReadSeq(0)
        })
    }

    /// Like [`join`](Self::join), for a caller that has used up its `max_wait`. It joins any flight
    /// whose first question was sent after the caller came; otherwise it starts one.
    pub fn join_expired(
        &self,
        key: &Key,
        came: Instant,
        stamp: impl FnOnce() -> Stamp,
    ) -> Joined<V> {
        let mut shard = self.shard(key);
        let slot = shard.entry(key.clone());
        if let Entry::Occupied(running) = &slot
            && let Some(follower) = running.get().join_expired(came)
        {
            return Joined::Follower(follower);
        }
        self.start(slot, stamp(), false)
    }

    fn start(
        &self,
        slot: Entry<'_, Key, Arc<Flight<V>>>,
        stamp: Stamp,
        is_about_to_wait: bool,
    ) -> Joined<V> {
        let key = slot.key().clone();
        let flight = Arc::new(Flight::new(stamp, is_about_to_wait));
        slot.insert_entry(flight.clone());
        let follower = Follower {
            flight: flight.clone(),
            joined: ReadSeq(0),
        };
        Joined::Leader(
            Leader {
                flights: self.clone(),
                key,
                flight,
            },
            follower,
        )
    }

    fn enter(
        &self,
        key: &Key,
        generations: &Generations,
        stamp: impl FnOnce() -> Stamp,
        is_for_us: impl FnOnce(&Follower<V>) -> bool,
    ) -> (Joined<V>, Option<Follower<V>>) {
        let mut shard = self.shard(key);
        let slot = shard.entry(key.clone());
        let running = match &slot {
            Entry::Occupied(running) => running.get().join(key, generations),
            Entry::Vacant(_) => None,
        };
        let before = match running {
            Some(follower) if is_for_us(&follower) => return (Joined::Follower(follower), None),
            before => before,
        };
        (self.start(slot, stamp(), before.is_some()), before)
    }

    /// The number of flights that are under way and that callers may join.
    pub fn len(&self) -> usize {
        self.0.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Tells whether no flight is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<V> Flights<V> {
    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard<V>> {
        let index = (key.hash().0 >> 32) as usize % SHARDS;
        lock(&self.0[index])
    }
}

impl<V: Clone> Default for Flights<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Clone for Flights<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Flight<V> {
    fn new(stamp: Stamp, is_about_to_wait: bool) -> Self {
        let state = State {
            stamp,
            is_about_to_wait,
            asked: ReadSeq(0),
            first_asked: None,
            waiting: 1,
            goes_on: false,
            is_uncounted: false,
            end: None,
        };
        Self {
            began: Instant::now(),
            state: Mutex::new(state),
            ended: Notify::new(),
            left: Notify::new(),
            uncounted: Notify::new(),
        }
    }

    // P2 only-current-is-served: a flight whose stamp is out of date is not joined, unless that
    // stamp counts no more.
    fn join(self: &Arc<Self>, key: &Key, generations: &Generations) -> Option<Follower<V>> {
        let mut state = lock(&self.state);
        let is_current = state.is_about_to_wait || generations.is_current(key.hash(), &state.stamp);
        if state.end.is_some() || state.is_deserted() || !is_current {
            return None;
        }
        let asked = state.asked;
        Some(self.board(&mut state, asked))
    }

    // P16 only-for-earlier-callers: whatever is asked for after the caller came is for it.
    fn join_expired(self: &Arc<Self>, came: Instant) -> Option<Follower<V>> {
        let mut state = lock(&self.state);
        let is_in_time = state.first_asked.is_none_or(|asked| came < asked);
        if state.end.is_some() || state.is_deserted() || !is_in_time {
            return None;
        }
        Some(self.board(&mut state, ReadSeq(0)))
    }

    fn board(self: &Arc<Self>, state: &mut State<V>, joined: ReadSeq) -> Follower<V> {
        state.waiting += 1;
        Follower {
            flight: self.clone(),
            joined,
        }
    }
}

impl<V> Leader<V> {
    /// The stamp for the values that this flight reads or loads.
    pub fn stamp(&self) -> Stamp {
        lock(&self.flight.state).stamp
    }

    /// Says that the flight sends no question before [`renew_stamp`](Self::renew_stamp). Until
    /// then, callers may join although the present stamp is too old for them, so that no second
    /// flight waits beside this one. `false` if there is a second flight already: then no caller
    /// joins this one any more.
    pub fn about_to_wait(&self) -> bool {
        let shard = self.flights.shard(&self.key);
        lock(&self.flight.state).is_about_to_wait = true;
        shard
            .get(&self.key)
            .is_some_and(|running| Arc::ptr_eq(running, &self.flight))
    }

    /// Takes a new stamp after a wait, before the flight's next question.
    pub fn renew_stamp(&self, stamp: Stamp) {
        let mut state = lock(&self.flight.state);
        (state.stamp, state.is_about_to_wait) = (stamp, false);
    }

    /// Numbers a question that is about to be sent. Its answer is not for callers that join later.
    pub fn ask(&self) -> ReadSeq {
        let mut state = lock(&self.flight.state);
        state.asked.0 += 1;
        state.first_asked.get_or_insert_with(Instant::now);
        state.asked
    }

    /// Waits until the last caller has gone, unless a caller told the flight to go on. From then on
    /// no caller joins it.
    pub async fn deserted(&self) {
        while !self.is_deserted() {
            self.flight.left.notified().await;
        }
    }

    /// Tells whether the flight has no caller and was not told to go on.
    pub fn is_deserted(&self) -> bool {
        lock(&self.flight.state).is_deserted()
    }

    /// Waits until no caller waits for this flight, which may have been told to go on all the same.
    pub async fn unattended(&self) {
        while !self.is_unattended() {
            self.flight.left.notified().await;
        }
    }

    /// Tells whether no caller waits for this flight at the moment.
    pub fn is_unattended(&self) -> bool {
        lock(&self.flight.state).waiting == 0
    }

    /// Waits until a caller says that the flight is [a part of its own](Follower::uncount).
    pub async fn uncounted(&self) {
        while !lock(&self.flight.state).is_uncounted {
            self.flight.uncounted.notified().await;
        }
    }

    /// Ends the flight with the answer to this question. Callers that joined after the question
    /// start over. So the leader puts the value into the levels before this call.
    // P16 only-for-earlier-callers: the answer is older than a caller that joined after the
    // question
    pub fn finish(self, value: V, asked: ReadSeq) {
        self.end(End::Outcome(value, asked));
    }

    /// Ends the flight with an outcome for all waiting callers.
    pub fn finish_for_all(self, value: V) {
        let now = self.ask();
        self.finish(value, now);
    }

    fn end(&self, end: End<V>) {
        let mut shard = self.flights.shard(&self.key);
        if shard
            .get(&self.key)
            .is_some_and(|running| Arc::ptr_eq(running, &self.flight))
        {
            shard.remove(&self.key);
        }
        drop(shard);
        lock(&self.flight.state).end.get_or_insert(end);
        self.flight.ended.notify_waiters();
    }
}

impl<V> Drop for Leader<V> {
    fn drop(&mut self) {
        self.end(End::Dropped); // has no effect after `finish`
    }
}

impl<V> State<V> {
    fn is_deserted(&self) -> bool {
        self.waiting == 0 && !self.goes_on
    }
}

impl<V> Follower<V> {
    /// Lets the flight go on to its end, also if no caller waits for it.
    pub fn go_on(&self) {
        lock(&self.flight.state).goes_on = true;
    }

    /// Lets the flight run without one of the permits for loads, because its caller's own load has
    /// one, and waits for it.
    pub fn uncount(&self) {
        lock(&self.flight.state).is_uncounted = true;
        self.flight.uncounted.notify_one(); // kept if the leader does not wait for it yet
    }

    /// How long the flight has been under way.
    pub fn age(&self) -> Duration {
        self.flight.began.elapsed()
    }
}

impl<V: Clone> Follower<V> {
    /// Waits for the end. `None`: the outcome is not for this caller, which should start over.
    pub async fn wait(&self) -> Option<V> {
        loop {
            let ended = self.flight.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable(); // before the look, so that an end in between is not missed
            if let Some(end) = &lock(&self.flight.state).end {
                return match end {
                    End::Outcome(value, asked) => (self.joined < *asked).then(|| value.clone()),
                    End::Dropped => None,
                };
            }
            ended.await;
        }
    }
}

impl<V> Drop for Follower<V> {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        state.waiting -= 1;
        if state.waiting == 0 && state.end.is_none() {
            self.flight.left.notify_one(); // kept if the leader does not wait for it yet
        }
    }
}

macro_rules! opaque_debug {
    ($($name:ident)*) => { $(
        impl<V> fmt::Debug for $name<V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )* };
}
opaque_debug!(Flights Leader Follower Joined);

#[cfg(test)]
mod tests;
