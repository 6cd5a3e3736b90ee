use std::{num::NonZeroU32, sync::Arc, time::Duration};

use larder_core::{Digest, Generations, Key, LaneIndex, Phase, PolicyIndex, Stamp, StoreError, Stored};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    Failure, Flights, Joined, Leases, Load, Look, Present, Ticket, flights::Lead, loading::Loading,
    pauses::Pauses, turns::Turns,
};

/// How long a [`StampedeLock`] waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLimits {
    /// A lease that is not renewed ends after this time: how fast another process takes over from a dead one.
    pub lease: Duration,
    /// A load that takes longer is given up: its lease is free and a late result is refused.
    pub load_timeout: Duration,
    /// The longest wait for another process's load, before the caller loads by itself, uncached; for an earlier load of
    /// this process that is out of date; and for one of [`max_loads`](Self::max_loads).
    pub max_wait: Duration,
    /// How long a caller waits for a load if there is a stale value; `None`: not at all.
    pub soft_timeout: Option<Duration>,
    /// At most this many loads run at once.
    pub max_loads: Option<NonZeroU32>,
    /// Whether a load must not begin while the remote store is out of reach.
    pub needs_remote: bool,
}

/// One load of a key at a time, in this process and, with leases, in all that share the remote store.
///
/// Whatever a concurrent writer does, a value is kept only if nobody wrote or invalidated its key since its load
/// began, and is handed only to callers for whom it is not too old.
#[derive(Debug)]
pub struct StampedeLock<V> {
    lookups: Flights<Sought<V>>,
    loads: Flights<V>,
    /// Loads of those who have waited for others long enough.
    alone: Flights<V>,
    pub(crate) context: Context,
}

#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) leases: Option<Leases>,
    pub(crate) generations: Arc<Generations>,
    policy_index: PolicyIndex,
    pub(crate) policy: LoadLimits,
    pub(crate) turns: Turns,
    /// One permit for each load that may run.
    pub(crate) slots: Option<Arc<Semaphore>>,
    pub(crate) pauses: Arc<Pauses>,
}

/// What a look found.
#[derive(Clone, Debug)]
pub(crate) enum Sought<V> {
    Present(Present<V>),
    /// No value, or one that cannot be used and has this digest.
    Nothing(Option<Digest>),
    /// The remote store did not answer.
    Unknown(StoreError),
}

/// One of the loads that may run at once, until it is dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "it is held to be dropped")] Option<OwnedSemaphorePermit>);

/// How a caller fares with a load that is under way.
enum Waited<V> {
    Served(V),
    /// The outcome is not for this caller, who should look again.
    NotForUs,
}

impl<V: Clone + Send + Sync + 'static> StampedeLock<V> {
    /// Makes a lock. Without leases it works within this process. `policy_index` is that of all its keys.
    pub fn new(
        leases: Option<Leases>,
        generations: Arc<Generations>,
        policy_index: PolicyIndex,
        policy: LoadLimits,
    ) -> Self {
        let slots = policy.max_loads.map(|most| {
            let most = usize::try_from(most.get()).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(most))
        });
        let context = Context {
            leases,
            generations,
            policy_index,
            policy,
            turns: Turns::default(),
            slots,
            pauses: Arc::default(),
        };
        Self { lookups: Flights::new(), loads: Flights::new(), alone: Flights::new(), context }
    }

    /// Looks the key up in the local and the remote store, without loading: a value that is not stale. Concurrent
    /// callers share one look.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get<L: Look<Value = V>>(&self, key: &Key, look: &mut L) -> Option<V> {
        match self.look(key, look).await {
            Sought::Present(present) if present.phase != Phase::Stale => Some(present.value),
            _ => None,
        }
    }

    /// Looks the key up, and loads it if no level has it. Concurrent callers share one load.
    ///
    /// A stale value is served while one load runs, over all processes, and if that fails; it is never one that was
    /// written or invalidated meanwhile.
    ///
    /// It takes at most as long as one call of the remote store may, `max_wait` and `load_timeout` together.
    ///
    /// # Cancellation
    /// A caller that is dropped leaves the load to the others. When the last one is dropped, the load is given up
    /// and its lease released, unless it replaces a value that is still served.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn get_or_load<L: Load<Value = V>>(&self, key: &Key, load: L) -> V {
        self.get_or_load_from(key, load, None).await
    }

    /// The same for who has looked already.
    pub(crate) async fn get_or_load_from<L: Load<Value = V>>(
        &self,
        key: &Key,
        load: L,
        looked: Option<Sought<V>>,
    ) -> V {
        let policy = &self.context.policy;
        let patience = match &self.context.leases {
            Some(leases) => leases.remote().call_timeout(),
            None => Some(Duration::ZERO),
        };
        let resolving = self.resolve(key, load, looked);
        let Some(patience) = patience else { return resolving.await };
        // The limit is the policy's own. It is met by who has waited for others as long as it may, and then for loaders that
        // take nearly as long as they may.
        let limit = patience.saturating_add(policy.max_wait).saturating_add(policy.load_timeout);
        tokio::time::timeout(limit, resolving).await.unwrap_or_else(|_elapsed| L::timed_out(key, limit))
    }

    async fn resolve<L: Load<Value = V>>(&self, key: &Key, mut load: L, mut looked: Option<Sought<V>>) -> V {
        let policy = &self.context.policy;
        let (began, mut starts_over) = (Instant::now(), false);
        loop {
            let sought = match looked.take() {
                Some(sought) => sought,
                None => self.look(key, &mut load).await,
            };
            let aging = match &sought {
                Sought::Present(present) if present.phase == Phase::Fresh => return present.value.clone(),
                Sought::Present(present) => Some(present.clone()),
                Sought::Nothing(_) | Sought::Unknown(_) => None,
            };
            if let Some(aging) = &aging
                && self.context.pauses.is_on(key.hash(), aging.phase)
            {
                return serve(aging, &mut load);
            }
            // Who was in vain once does not wait for others for ever.
            let waited = if starts_over { began.elapsed() } else { Duration::ZERO };
            if starts_over && waited >= policy.max_wait {
                return match (aging, sought) {
                    (Some(aging), _) => serve(&aging, &mut load),
                    (None, Sought::Unknown(error)) if policy.needs_remote => {
                        load.failed(Failure::CutOff(error))
                    }
                    _ => self.load_alone(key, load, began).await,
                };
            }
            match self.loads.join(key, &self.context.generations, || self.context.stamp(key)) {
                Joined::Waiter(ticket) => {
                    load.waits();
                    let waiting = self.wait(key, &ticket, aging, waited, &mut load);
                    let rest = if starts_over { policy.max_wait - waited } else { Duration::MAX };
                    if let Ok(Waited::Served(value)) = tokio::time::timeout(rest, waiting).await {
                        return value;
                    }
                }
                Joined::Leader(lead, ticket) => {
                    let mut look = load.detached();
                    if aging.is_some() {
                        ticket.go_on();
                    }
                    let (loading, given_back) = Loading::new(&self.context, key, lead, load, sought, began);
                    // A task of its own: the load outlives the caller that started it, and those who share it must
                    // not depend on that caller being polled.
                    tokio::spawn(loading.run());
                    // The leader joined before anything was asked for, so every outcome is for it.
                    match self.wait(key, &ticket, aging, waited, &mut look).await {
                        Waited::Served(value) => return value,
                        Waited::NotForUs => match given_back.await {
                            Ok(given_back) => load = given_back,
                            Err(_gone) => return L::dropped(key),
                        },
                    }
                }
            }
            starts_over = true;
        }
    }

    /// Loads for those who have waited for others long enough, since this moment.
    async fn load_alone<L: Load<Value = V>>(&self, key: &Key, mut load: L, came: Instant) -> V {
        loop {
            match self.alone.join_late(key, came, || self.context.stamp(key)) {
                Joined::Waiter(ticket) => {
                    load.waits();
                    if let Some(value) = ticket.wait().await {
                        return value;
                    }
                }
                Joined::Leader(lead, ticket) => {
                    let looked = Sought::Nothing(None);
                    let (loading, _) = Loading::new(&self.context, key, lead, load, looked, Instant::now());
                    tokio::spawn(loading.run_alone()); // a task like any load, whose panic is its own
                    return ticket.wait().await.unwrap_or_else(|| L::dropped(key));
                }
            }
        }
    }

    /// Takes one of [`max_loads`](LoadLimits::max_loads), for a load of many keys whose parts take none; `None` if that could not
    /// be had within `max_wait`.
    pub async fn slot(&self) -> Option<Slot> {
        let Some(slots) = self.context.slots.clone() else { return Some(Slot(None)) };
        // The limit is the policy's own.
        let permit = tokio::time::timeout(self.context.policy.max_wait, slots.acquire_owned()).await;
        Some(Slot(Some(permit.ok()?.ok()?)))
    }

    /// Starts to reload a value that is still served, in the background, unless that is under way already or is not to
    /// be tried again yet. One reload runs at a time over all processes.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn reload<L: Load<Value = V>>(&self, key: &Key, present: Present<V>, load: L) {
        if self.context.pauses.is_on(key.hash(), present.phase) {
            return;
        }
        if let Joined::Leader(lead, ticket) =
            self.loads.join(key, &self.context.generations, || self.context.stamp(key))
        {
            ticket.go_on();
            // A task of its own: nobody waits for it.
            let looked = Sought::Present(present);
            let (loading, _) = Loading::new(&self.context, key, lead, load, looked, Instant::now());
            tokio::spawn(loading.run());
        }
    }

    /// Looks into the levels.
    async fn look<L: Look<Value = V>>(&self, key: &Key, look: &mut L) -> Sought<V> {
        if let Some(present) = look.cached() {
            return Sought::Present(present);
        }
        let Some(leases) = &self.context.leases else { return Sought::Nothing(None) };
        if !look.keeps() {
            // Nothing is kept that a later caller could find, so to share a look would make it wait for an answer
            // that is not for it (P16 only-for-earlier-callers).
            return self.context.look_remotely(leases, key, &self.context.stamp(key), look).await;
        }
        let (joined, before) = self.lookups.queue(key, &self.context.generations, || self.context.stamp(key));
        let ticket = match joined {
            Joined::Waiter(ticket) => ticket,
            Joined::Leader(lead, ticket) => {
                let (context, leases) = (self.context.clone(), leases.clone());
                let (key, look) = (key.clone(), look.detached());
                // A task of its own: those who share the look must not depend on this caller being polled.
                tokio::spawn(async move { context.look_for_all(&leases, &key, lead, before, look).await });
                ticket
            }
        };
        // All who are in a flight joined it before anything was asked for. It is dropped only with the runtime.
        ticket.wait().await.unwrap_or(Sought::Nothing(None))
    }

    /// Waits for a load: to its end if there is nothing else to serve, else at most as long as the policy says, of which the
    /// caller has waited so long for others.
    async fn wait<L: Load<Value = V>>(
        &self,
        key: &Key,
        ticket: &Ticket<V>,
        aging: Option<Present<V>>,
        waited: Duration,
        load: &mut L,
    ) -> Waited<V> {
        let to_the_end = async || ticket.wait().await.map_or(Waited::NotForUs, Waited::Served);
        let Some(aging) = aging else { return to_the_end().await };
        let soft = match self.context.policy.soft_timeout {
            Some(soft) if aging.phase == Phase::Stale => soft.saturating_sub(waited.max(ticket.age())),
            _ => return Waited::Served(serve(&aging, load)),
        };
        // The timeout is the row's own: a stale value is better than a longer wait.
        let failed = match tokio::time::timeout(soft, ticket.wait()).await {
            Ok(Some(value)) if L::is_failure(&value) => Some(value),
            Ok(Some(value)) => return Waited::Served(value),
            Ok(None) => return Waited::NotForUs,
            Err(_elapsed) => None,
        };
        ticket.go_on();
        // P28 stale-only-while-current: never one that was written or invalidated meanwhile.
        match failed {
            _ if aging.is_current(key, &self.context.generations) => Waited::Served(serve(&aging, load)),
            Some(error) => Waited::Served(error),
            None => to_the_end().await,
        }
    }
}

/// Hands out a value that is due or stale.
fn serve<V: Clone, L: Look<Value = V>>(aging: &Present<V>, look: &mut L) -> V {
    if aging.phase == Phase::Stale {
        look.served_stale();
    }
    aging.value.clone()
}

impl Context {
    // P1 stamp-before-read: taken before the read or the load begins.
    pub(crate) fn stamp(&self, key: &Key) -> Stamp {
        let lane = self.leases.as_ref().map_or(LaneIndex::NONE, |leases| leases.remote().lane(key.as_str()));
        self.generations.stamp(key.hash(), lane, self.policy_index)
    }

    /// Takes what the remote store says of a key.
    pub(crate) async fn take<L: Look>(
        &self,
        key: &Key,
        found: Result<Option<Stored>, StoreError>,
        stamp: &Stamp,
        look: &mut L,
    ) -> Sought<L::Value> {
        match found {
            Ok(Some(stored)) => match look.accept(stored, stamp).await {
                Ok(present) => {
                    if present.phase == Phase::Fresh {
                        self.pauses.end(key.hash()); // somebody has reloaded it
                    }
                    Sought::Present(present)
                }
                Err(undecodable) => Sought::Nothing(Some(undecodable)),
            },
            Ok(None) => Sought::Nothing(None),
            Err(error) => {
                look.remote_failed(&error);
                Sought::Unknown(error)
            }
        }
    }

    /// Looks into the levels for all who share the look, after the look before it has ended, which its callers were late
    /// for.
    async fn look_for_all<L: Look>(
        &self,
        leases: &Leases,
        key: &Key,
        lead: Lead<Sought<L::Value>>,
        before: Option<Ticket<Sought<L::Value>>>,
        mut look: L,
    ) where
        L::Value: Clone,
    {
        let is_late = before.is_some();
        if let Some(before) = before {
            before.wait().await;
            lead.restamp(self.stamp(key)); // P1 stamp-before-read
        }
        let asked = lead.ask();
        if lead.is_deserted() {
            return;
        }
        // Where all who are late would look next.
        if is_late && let Some(present) = look.cached() {
            return lead.finish(Sought::Present(present), asked);
        }
        let sought = self.look_remotely(leases, key, &lead.stamp(), &mut look).await;
        lead.finish(sought, asked);
    }

    pub(crate) async fn look_remotely<L: Look>(
        &self,
        leases: &Leases,
        key: &Key,
        stamp: &Stamp,
        look: &mut L,
    ) -> Sought<L::Value> {
        let remote = leases.remote();
        let found = if look.needs_ttl() {
            remote.get_with_ttl(key.as_str()).await
        } else {
            remote.get(key.as_str()).await.map(|value| value.map(|value| Stored { value, ttl: None }))
        };
        self.take(key, found, stamp, look).await
    }
}
