use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder_core::{Generations, Key, Stamp};
use tokio::{sync::Notify, time::Instant};

/// The loads that run in this process, by key: who asks for a key that is under way joins its flight.
///
/// A flight may be joined only while its stamp is current, or is about to be taken anew: one that began before an
/// invalidation goes on for those who joined it, and a new one starts beside it. Only who came before it asked for
/// anything may join it all the same.
pub struct Flights<V>(Arc<[Mutex<Shard<V>>]>);

type Shard<V> = HashMap<Key, Arc<Flight<V>>>;

const SHARDS: usize = 16;

/// How a caller takes part in a flight.
pub enum Joined<V> {
    /// The caller runs the flight, and waits for it like everybody else.
    Leader(Lead<V>, Ticket<V>),
    /// Somebody else runs it.
    Waiter(Ticket<V>),
}

/// A moment in a flight at which something was asked for: of a store, or of a loader.
///
/// What comes of it may be older than a write that ends a moment later, so it is only for callers who joined before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked(u64);

/// The right to run a flight. If it is dropped without an outcome, those who wait start over.
pub struct Lead<V> {
    flights: Flights<V>,
    key: Key,
    flight: Arc<Flight<V>>,
}

/// A place in a flight. When the last one is dropped, the flight is given up, unless it was told to
/// [go on](Self::go_on).
pub struct Ticket<V> {
    flight: Arc<Flight<V>>,
    joined: Asked,
}

struct Flight<V> {
    began: Instant,
    state: Mutex<State<V>>,
    ended: Notify,
    /// Nobody waits any more.
    left: Notify,
}

struct State<V> {
    stamp: Stamp,
    /// Whether it will be restamped before anything more is asked for.
    holds_off: bool,
    asked: Asked,
    first_asked: Option<Instant>,
    waiting: usize,
    /// Whether it goes on also if nobody waits.
    goes_on: bool,
    end: Option<End<V>>,
}

enum End<V> {
    /// For those who joined before this was asked for.
    Outcome(V, Asked),
    /// Whoever ran it was dropped.
    Dropped,
}

impl<V: Clone> Flights<V> {
    /// Makes an empty table.
    pub fn new() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }

    /// Joins the key's flight if there is one whose stamp is current, else starts one with a new stamp.
    pub fn join(&self, key: &Key, generations: &Generations, stamp: impl FnOnce() -> Stamp) -> Joined<V> {
        self.enter(key, generations, stamp, |_| true).0
    }

    /// The same for a flight that asks only once: what it has asked for already is not for who comes now. Such a caller
    /// joins the next flight, or starts it. That holds off until whoever runs it [restamps](Lead::restamp) it, after the
    /// flight has ended for which a ticket is returned too.
    pub fn queue(
        &self,
        key: &Key,
        generations: &Generations,
        stamp: impl FnOnce() -> Stamp,
    ) -> (Joined<V>, Option<Ticket<V>>) {
        self.enter(key, generations, stamp, |ticket| ticket.joined == Asked(0))
    }

    /// The same for who came so long ago that nothing is joined any more for what it brings later: what has been asked for
    /// since that caller came is for it, whoever else it was asked for and whatever was invalidated since.
    pub fn join_late(&self, key: &Key, came: Instant, stamp: impl FnOnce() -> Stamp) -> Joined<V> {
        let mut shard = self.shard(key);
        let slot = shard.entry(key.clone());
        if let Entry::Occupied(running) = &slot
            && let Some(ticket) = running.get().join_late(came)
        {
            return Joined::Waiter(ticket);
        }
        self.start(slot, stamp(), false)
    }

    fn start(&self, slot: Entry<'_, Key, Arc<Flight<V>>>, stamp: Stamp, holds_off: bool) -> Joined<V> {
        let key = slot.key().clone();
        let flight = Arc::new(Flight::new(stamp, holds_off));
        slot.insert_entry(flight.clone());
        let ticket = Ticket { flight: flight.clone(), joined: Asked(0) };
        Joined::Leader(Lead { flights: self.clone(), key, flight }, ticket)
    }

    fn enter(
        &self,
        key: &Key,
        generations: &Generations,
        stamp: impl FnOnce() -> Stamp,
        is_for_us: impl FnOnce(&Ticket<V>) -> bool,
    ) -> (Joined<V>, Option<Ticket<V>>) {
        let mut shard = self.shard(key);
        let slot = shard.entry(key.clone());
        let running = match &slot {
            Entry::Occupied(running) => running.get().join(key, generations),
            Entry::Vacant(_) => None,
        };
        let before = match running {
            Some(ticket) if is_for_us(&ticket) => return (Joined::Waiter(ticket), None),
            before => before,
        };
        (self.start(slot, stamp(), before.is_some()), before)
    }

    /// How many flights are under way and may be joined.
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
    fn new(stamp: Stamp, holds_off: bool) -> Self {
        let state = State {
            stamp,
            holds_off,
            asked: Asked(0),
            first_asked: None,
            waiting: 1,
            goes_on: false,
            end: None,
        };
        Self { began: Instant::now(), state: Mutex::new(state), ended: Notify::new(), left: Notify::new() }
    }

    // P2 only-current-is-served: a flight whose stamp is out of date is not joined, unless that stamp counts no more.
    fn join(self: &Arc<Self>, key: &Key, generations: &Generations) -> Option<Ticket<V>> {
        let mut state = lock(&self.state);
        let is_current = state.holds_off || generations.is_current(key.hash(), &state.stamp);
        if state.end.is_some() || state.is_deserted() || !is_current {
            return None;
        }
        let asked = state.asked;
        Some(self.board(&mut state, asked))
    }

    // P16 only-for-earlier-callers: whatever is asked for after the caller came is for it.
    fn join_late(self: &Arc<Self>, came: Instant) -> Option<Ticket<V>> {
        let mut state = lock(&self.state);
        let is_in_time = state.first_asked.is_none_or(|asked| came < asked);
        if state.end.is_some() || state.is_deserted() || !is_in_time {
            return None;
        }
        Some(self.board(&mut state, Asked(0)))
    }

    fn board(self: &Arc<Self>, state: &mut State<V>, joined: Asked) -> Ticket<V> {
        state.waiting += 1;
        Ticket { flight: self.clone(), joined }
    }
}

impl<V> Lead<V> {
    /// The stamp that what this flight reads or loads must carry.
    pub fn stamp(&self) -> Stamp {
        lock(&self.flight.state).stamp
    }

    /// Says that nothing more is asked for before [`restamp`](Self::restamp): until then also those may join for whom
    /// the present stamp is too old, so that no second flight has to wait for the same. `false` if there has been a
    /// second one already: then nobody joins this one any more.
    pub fn hold_off(&self) -> bool {
        let shard = self.flights.shard(&self.key);
        lock(&self.flight.state).holds_off = true;
        shard.get(&self.key).is_some_and(|running| Arc::ptr_eq(running, &self.flight))
    }

    /// Starts over with a new stamp, after a wait: whatever is read from now on is as new as that.
    pub fn restamp(&self, stamp: Stamp) {
        let mut state = lock(&self.flight.state);
        (state.stamp, state.holds_off) = (stamp, false);
    }

    /// Says that something is about to be asked for. What comes of it is not for those who join from now on.
    pub fn ask(&self) -> Asked {
        let mut state = lock(&self.flight.state);
        state.asked.0 += 1;
        state.first_asked.get_or_insert_with(Instant::now);
        state.asked
    }

    /// Waits until the flight is to be given up: nobody waits for it any more, and it was not told to go on. From then
    /// on nobody joins it either.
    pub async fn deserted(&self) {
        while !self.is_deserted() {
            self.flight.left.notified().await;
        }
    }

    /// Tells whether the flight is to be given up.
    pub fn is_deserted(&self) -> bool {
        lock(&self.flight.state).is_deserted()
    }

    /// Waits until nobody waits for this flight, which may have been told to go on all the same.
    pub async fn unattended(&self) {
        while !self.is_unattended() {
            self.flight.left.notified().await;
        }
    }

    /// Tells whether nobody waits for this flight at the moment.
    pub fn is_unattended(&self) -> bool {
        lock(&self.flight.state).waiting == 0
    }

    /// Ends the flight with what was asked for at this moment; whoever joined later starts over. What they may find
    /// must be in its place before.
    // P16 only-for-earlier-callers
    pub fn finish(self, value: V, asked: Asked) {
        self.end(End::Outcome(value, asked));
    }

    /// Ends the flight with a value that is good for everybody who waits.
    pub fn finish_for_all(self, value: V) {
        let now = self.ask();
        self.finish(value, now);
    }

    fn end(&self, end: End<V>) {
        let mut shard = self.flights.shard(&self.key);
        if shard.get(&self.key).is_some_and(|running| Arc::ptr_eq(running, &self.flight)) {
            shard.remove(&self.key);
        }
        drop(shard);
        lock(&self.flight.state).end.get_or_insert(end);
        self.flight.ended.notify_waiters();
    }
}

impl<V> Drop for Lead<V> {
    fn drop(&mut self) {
        self.end(End::Dropped); // has no effect after `finish`
    }
}

impl<V> State<V> {
    fn is_deserted(&self) -> bool {
        self.waiting == 0 && !self.goes_on
    }
}

impl<V> Ticket<V> {
    /// Lets the flight go on to its end, also if nobody waits for it.
    pub fn go_on(&self) {
        lock(&self.flight.state).goes_on = true;
    }

    /// How long the flight has been under way.
    pub fn age(&self) -> Duration {
        self.flight.began.elapsed()
    }
}

impl<V: Clone> Ticket<V> {
    /// Waits for the end; `None` says that the outcome is not for this caller, who should start over.
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

impl<V> Drop for Ticket<V> {
    fn drop(&mut self) {
        let mut state = lock(&self.flight.state);
        state.waiting -= 1;
        if state.waiting == 0 && state.end.is_none() {
            self.flight.left.notify_one(); // kept if the leader does not wait for it yet
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing done under these locks can panic half-way, so poison says nothing about the state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
opaque_debug!(Flights Lead Ticket Joined);

#[cfg(test)]
mod tests;
