use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use larder_core::{Cells, Digest, Key, Stamp, StoreError, Stored};
use tokio::time::Instant;

use crate::{Asked, Claimed, Flights, Joined, Lead, Lease, Leases};

/// How long a [`StampedeLock`] waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// A lease that is not renewed ends after this time: how fast another process takes over from a dead one.
    pub lease: Duration,
    /// A load that takes longer is given up: its lease is free and a late result is refused.
    pub load_timeout: Duration,
    /// The longest wait for another process's load, before the caller loads by itself, uncached.
    pub max_wait: Duration,
}

/// Where a loaded value was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the remote store, as [`Load::encode`] said.
    Remote,
    /// Nowhere, because the remote store is out of reach. No push will tell when it is outdated.
    Degraded,
    /// Nowhere, because there is no remote store.
    Local,
}

/// Why a load has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The loader panicked.
    Panicked,
    /// The loader took longer than [`Policy::load_timeout`].
    TimedOut(Duration),
}

/// What is to become of a loaded value in the remote store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// These bytes are to be stored, for this time.
    Store(Vec<u8>, Duration),
    /// It is not to be stored, and good for all who wait.
    Nothing,
    /// It was invalidated since its load began, by one of its tags.
    Refused,
}

/// Why a loaded value is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its lease was lost, or marked by an invalidation.
    Lease,
    /// Its stamp was out of date, or one of its tags.
    Outdated,
}

/// What one read does with what it finds.
pub trait Look: Send + 'static {
    /// What callers get: cheap to clone, and it says by itself whether it is an error.
    type Value: Clone + Send + Sync + 'static;

    /// Looks into the local store, without waiting.
    fn cached(&self) -> Option<Self::Value>;

    /// Takes a value from the remote store; it may be kept locally with this stamp.
    ///
    /// # Errors
    /// The bytes' digest if they cannot be used: then a load may replace exactly these bytes.
    fn accept(
        &mut self,
        stored: Stored,
        stamp: &Stamp,
    ) -> impl Future<Output = Result<Self::Value, Digest>> + Send;

    /// Whether [`accept`](Self::accept) keeps values in a local store. If not, nobody shares the look of another.
    fn keeps(&self) -> bool {
        true
    }

    /// Whether [`accept`](Self::accept) needs to know the rest of the value's life, which costs a second command.
    fn needs_ttl(&self) -> bool {
        true
    }

    /// Takes note that the remote store did not do its part.
    fn remote_failed(&mut self, error: &StoreError);
}

/// What one load does.
pub trait Load: Look {
    /// Learns from the remote store what must be known before the loader runs. Called while the lease is asked for.
    fn prepare(&mut self) -> impl Future<Output = ()> + Send;

    /// Runs the loader. Called at most once.
    fn load(&mut self) -> BoxFuture<'static, Self::Value>;

    /// Turns a load without a result into what callers get.
    fn failed(&mut self, failure: Failure) -> Self::Value;

    /// What a caller gets if the task that ran its load is gone, as when the runtime shuts down.
    fn dropped(key: &Key) -> Self::Value;

    /// Says how the value is to be stored.
    fn encode(&mut self, value: &Self::Value) -> impl Future<Output = Encoded> + Send;

    /// The remote store has taken what [`encode`](Self::encode) made of the value, which may be kept locally as soon as
    /// it has been read from there.
    fn committed(&mut self, value: &Self::Value) -> impl Future<Output = ()> + Send;

    /// The value may be kept locally, with this stamp, and nowhere else. `false` if it was invalidated since its load
    /// began.
    fn keep(&mut self, value: &Self::Value, stamp: &Stamp, kept: Kept) -> bool;

    /// Takes note that somebody wrote or invalidated the key during the load: the value is kept nowhere.
    fn refused(&mut self, why: Refusal);
}

/// One load of a key at a time, in this process and, with leases, in all that share the remote store.
///
/// Whatever a concurrent writer does, a value is kept only if nobody wrote or invalidated its key since its load
/// began, and is handed only to callers for whom it is not too old.
#[derive(Debug)]
pub struct StampedeLock<V> {
    flights: Flights<V>,
    lookups: Flights<Option<V>>,
    context: Context,
}

#[derive(Clone, Debug)]
struct Context {
    leases: Option<Leases>,
    cells: Arc<Cells>,
    namespace: u16,
    policy: Policy,
}

impl<V: Clone + Send + Sync + 'static> StampedeLock<V> {
    /// Makes a lock. Without leases it works within this process. `namespace` is the cell for all its keys.
    pub fn new(leases: Option<Leases>, cells: Arc<Cells>, namespace: u16, policy: Policy) -> Self {
        let context = Context { leases, cells, namespace, policy };
        Self { flights: Flights::new(), lookups: Flights::new(), context }
    }

    /// Looks the key up in the local and the remote store, without loading. Concurrent callers share one look.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get<L: Look<Value = V>>(&self, key: &Key, mut look: L) -> Option<V> {
        loop {
            if let Some(value) = look.cached() {
                return Some(value);
            }
            let leases = self.context.leases.as_ref()?;
            if !look.keeps() {
                return look_remotely(leases, key, &self.context.stamp(key), &mut look).await.value();
            }
            match self.lookups.join(key, &self.context.cells, || self.context.stamp(key)) {
                Joined::Waiter(ticket) => match ticket.wait().await {
                    Some(found) => return found,
                    None => continue,
                },
                Joined::Leader(lead, ticket) => {
                    let (leases, key) = (leases.clone(), key.clone());
                    // A task of its own: those who share the look must not depend on this caller being polled.
                    tokio::spawn(async move {
                        let asked = lead.ask();
                        let found = look_remotely(&leases, &key, &lead.stamp(), &mut look).await;
                        lead.finish(found.value(), asked);
                    });
                    return ticket.wait().await.flatten();
                }
            }
        }
    }

    /// Looks the key up, and loads it if no level has it. Concurrent callers share one load.
    ///
    /// # Cancellation
    /// A caller that is dropped leaves the load to the others. When the last one is dropped, the load is given up
    /// and its lease released.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get_or_load<L: Load<Value = V>>(&self, key: &Key, mut load: L) -> V {
        loop {
            if let Some(value) = load.cached() {
                return value;
            }
            let looked = match &self.context.leases {
                // Nothing is kept that a later caller could find, so to share a look would make it wait for an answer
                // that is not for it (P16).
                Some(leases) if !load.keeps() => {
                    match look_remotely(leases, key, &self.context.stamp(key), &mut load).await {
                        Found::Value(value) => return value,
                        found => Some(found),
                    }
                }
                _ => None,
            };
            match self.flights.join(key, &self.context.cells, || self.context.stamp(key)) {
                Joined::Waiter(ticket) => match ticket.wait().await {
                    Some(value) => return value,
                    None => continue,
                },
                Joined::Leader(lead, ticket) => {
                    let flight = Flight { context: self.context.clone(), key: key.clone(), lead, load };
                    // A task of its own: the load outlives the caller that started it, and those who share it must
                    // not depend on that caller being polled.
                    tokio::spawn(flight.run(looked));
                    // The leader joined before anything was asked for, so every outcome is for it.
                    return ticket.wait().await.unwrap_or_else(|| L::dropped(key));
                }
            }
        }
    }
}

impl Context {
    // P1: taken before the read or the load begins.
    fn stamp(&self, key: &Key) -> Stamp {
        let lane = self.leases.as_ref().map_or(Cells::NO_LANE, |leases| leases.remote().lane(key.as_str()));
        self.cells.stamp(key.hash(), lane, self.namespace)
    }
}

/// What a look into the remote store found.
enum Found<V> {
    Value(V),
    /// No value, or one that cannot be used and has this digest.
    Nothing(Option<Digest>),
    /// The store did not answer.
    Unknown,
}

impl<V> Found<V> {
    fn value(self) -> Option<V> {
        match self {
            Self::Value(value) => Some(value),
            Self::Nothing(_) | Self::Unknown => None,
        }
    }
}

async fn look_remotely<L: Look>(leases: &Leases, key: &Key, stamp: &Stamp, look: &mut L) -> Found<L::Value> {
    let remote = leases.remote();
    let found = if look.needs_ttl() {
        remote.get_with_ttl(key.as_str()).await
    } else {
        remote.get(key.as_str()).await.map(|value| value.map(|value| Stored { value, ttl: None }))
    };
    match found {
        Ok(Some(stored)) => match look.accept(stored, stamp).await {
            Ok(value) => Found::Value(value),
            Err(undecodable) => Found::Nothing(Some(undecodable)),
        },
        Ok(None) => Found::Nothing(None),
        Err(error) => {
            look.remote_failed(&error);
            Found::Unknown
        }
    }
}

/// A flight under way.
struct Flight<L: Load> {
    context: Context,
    key: Key,
    lead: Lead<L::Value>,
    load: L,
}

/// How often bytes that cannot be used may change under a flight before it stops trying to replace them.
const UNDECODABLE_ROUNDS: usize = 3;

impl<L: Load> Flight<L> {
    /// Looks, unless its leader has, and loads if there is nothing.
    async fn run(mut self, looked: Option<Found<L::Value>>) {
        // An earlier flight may have ended between the leader's look into the local store and the start of this one.
        if let Some(value) = self.load.cached() {
            return self.lead.finish_for_all(value);
        }
        let Some(leases) = self.context.leases.clone() else {
            return self.load_without_remote(Kept::Local).await;
        };
        let asked = self.lead.ask();
        let found = match looked {
            Some(found) => found,
            None => look_remotely(&leases, &self.key, &self.lead.stamp(), &mut self.load).await,
        };
        match found {
            Found::Value(value) => self.lead.finish(value, asked),
            Found::Nothing(undecodable) => self.claim(leases, undecodable).await,
            Found::Unknown => self.load_without_remote(Kept::Degraded).await,
        }
    }

    /// Gets the lease or somebody else's value. Calls of the store are never cut off half-way, so that a lease which
    /// one of them took is always known here.
    async fn claim(mut self, leases: Leases, mut undecodable: Option<Digest>) {
        let policy = self.context.policy;
        let (start, mut rounds) = (Instant::now(), 0);
        while rounds < UNDECODABLE_ROUNDS && !self.lead.is_deserted() {
            let asked = self.lead.ask();
            let claim = leases.claim(&self.key, policy.lease, undecodable.as_ref());
            // P22: both before the loader, and so at once.
            let (claimed, ()) = tokio::join!(claim, self.load.prepare());
            match claimed {
                Ok(Claimed::Leased(lease)) => return self.load_with_lease(lease, undecodable).await,
                Ok(Claimed::Hit(stored)) => match self.load.accept(stored, &self.lead.stamp()).await {
                    Ok(value) => return self.lead.finish(value, asked),
                    Err(digest) => {
                        undecodable = Some(digest);
                        rounds += 1;
                    }
                },
                Ok(Claimed::Busy(waiter)) => {
                    tokio::select! {
                        () = waiter.wait() => {}
                        () = self.lead.deserted() => return,
                        // The holder takes longer than this caller may wait.
                        () = tokio::time::sleep(policy.max_wait.saturating_sub(start.elapsed())) => break,
                    }
                    self.lead.restamp(self.context.stamp(&self.key));
                }
                Err(error) => {
                    self.load.remote_failed(&error);
                    return self.load_without_remote(Kept::Degraded).await;
                }
            }
        }
        self.load_uncached().await;
    }

    async fn load_with_lease(mut self, mut lease: Lease, undecodable: Option<Digest>) {
        let Some((value, loading)) = self.run_loader().await else {
            // P19: nobody wants it any more. An error leaves the lease to its time.
            let _ = lease.release().await;
            return;
        };
        let storing = self.lead.ask(); // P23: before the tags are held
        // P3: the store keeps the value, or says that nobody interfered, only under a lease that is held and clean.
        let done = match self.load.encode(&value).await {
            Encoded::Store(bytes, ttl) => {
                let done = lease.commit(&bytes, ttl, undecodable.as_ref()).await;
                if let Ok(true) = done {
                    self.load.committed(&value).await; // P4
                }
                done
            }
            Encoded::Nothing => lease.release().await,
            Encoded::Refused => {
                let _ = lease.release().await; // an error leaves the lease to its time
                self.load.refused(Refusal::Outdated);
                return self.lead.finish(value, loading); // P16
            }
        };
        match done {
            Ok(true) => return self.lead.finish(value, storing),
            Ok(false) => self.load.refused(Refusal::Lease),
            Err(error) => self.load.remote_failed(&error),
        }
        // P16: it may be older than a write that has ended since the load began.
        self.lead.finish(value, loading);
    }

    /// Loads while the flight's stamp takes the lease's place: in this process nothing older is kept or shared.
    async fn load_without_remote(mut self, kept: Kept) {
        // P1: anew, because the lane's loss, which led here, has made the flight's first stamp out of date.
        self.lead.restamp(self.context.stamp(&self.key));
        let Some((value, loading)) = self.run_loader().await else { return };
        let (stamp, storing) = (self.lead.stamp(), self.lead.ask());
        if self.load.keep(&value, &stamp, kept) && self.context.cells.is_current(self.key.hash(), &stamp) {
            self.lead.finish(value, storing);
        } else {
            self.load.refused(Refusal::Outdated);
            self.lead.finish(value, loading); // P16
        }
    }

    /// Loads without a lease while another process holds it: nothing is kept.
    async fn load_uncached(mut self) {
        if let Some((value, loading)) = self.run_loader().await {
            self.lead.finish(value, loading); // P16
        }
    }

    /// Runs the loader within its limits; `None` if nobody waits for it any more.
    async fn run_loader(&mut self) -> Option<(L::Value, Asked)> {
        let loading = self.lead.ask();
        let limit = self.context.policy.load_timeout;
        let load = AssertUnwindSafe(async { self.load.load().await }).catch_unwind();
        // A panic leaves nothing behind that anybody would see: the loader is dropped with the flight.
        let ended = tokio::select! {
            biased; // a loader that nobody waits for is not even started
            () = self.lead.deserted() => return None,
            ended = tokio::time::timeout(limit, load) => ended,
        };
        let value = match ended {
            Ok(Ok(value)) => value,
            Ok(Err(_panic)) => self.load.failed(Failure::Panicked),
            Err(_elapsed) => self.load.failed(Failure::TimedOut(limit)),
        };
        Some((value, loading))
    }
}
