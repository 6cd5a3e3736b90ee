use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::{Committed, Digest, Key, Phase, Replacing, StoreError};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    Asked, Claimed, Encoded, Failure, Kept, Lead, Lease, Leases, Load, Present, Refusal, Waiter,
    stampede::{Context, Sought},
    turns::Turn,
};

/// A load under way, in a task of its own: it gets the lease, runs the loader, and stores what that returns.
pub(crate) struct Loading<L: Load> {
    context: Context,
    key: Key,
    lead: Lead<L::Value>,
    load: L,
    /// What its leader has found.
    looked: Sought<L::Value>,
    /// Whether it began with a value that is still served: then it is worth something also if nobody waits.
    is_reload: bool,
    /// Until then it may wait for others: from when its leader came.
    until: Instant,
    /// Whether its callers have waited for others long enough: it waits for no lease any more, and is next to run.
    is_late: bool,
    /// Takes the loader back to the leader if that has to start over.
    start_over: oneshot::Sender<L>,
    /// The value that is to be replaced.
    previous: Option<L::Value>,
    slot: Option<Slot>,
}

/// The right to run the loader.
struct Slot {
    /// One of the loaders that may run at once, if their number is limited. Given back before the turn, for whoever is next.
    _permit: Option<OwnedSemaphorePermit>,
    /// One loader of the key runs at a time. None is left to who cannot wait for it any longer.
    _turn: Option<Turn>,
}

/// Longer than anybody waits.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// How often what is to be replaced may change under a load before it stops trying.
const ROUNDS: usize = 3;

/// How long a reload is not tried again for which there was no room.
const CROWDED: Duration = Duration::from_millis(100);

/// Whether the loader may be run.
enum Room {
    Taken,
    /// As many loaders as may run at once did, all the time that a caller may wait.
    Crowded,
    /// There is a newer flight for its callers.
    Displaced,
    /// Nobody waits for the load any more.
    Deserted,
}

impl<L: Load> Loading<L> {
    /// Makes one, and where its leader gets the loader back if the flight is dropped before that was run.
    pub(crate) fn new(
        context: &Context,
        key: &Key,
        lead: Lead<L::Value>,
        load: L,
        looked: Sought<L::Value>,
        began: Instant,
    ) -> (Self, oneshot::Receiver<L>) {
        let is_reload = matches!(looked, Sought::Present(_));
        let (context, key) = (context.clone(), key.clone());
        let until = began.checked_add(context.policy.max_wait).unwrap_or_else(|| began + FOR_EVER);
        let (start_over, given_back) = oneshot::channel();
        let loading = Self {
            context,
            key,
            lead,
            load,
            looked,
            is_reload,
            until,
            is_late: false,
            start_over,
            previous: None,
            slot: None,
        };
        (loading, given_back)
    }

    pub(crate) async fn run(mut self) {
        // An earlier flight may have ended between the leader's look into the local store and the start of this one.
        let asked = self.lead.ask();
        let cached = self.load.cached();
        if let Some(present) = cached.as_ref().filter(|present| !self.replaces(present)) {
            return self.lead.finish(present.value.clone(), asked);
        }
        let Some(leases) = self.context.leases.clone() else {
            if cached.is_none() && self.is_needless() {
                return;
            }
            self.previous = cached.map(|present| present.value);
            return self.load_without_remote(Kept::Local).await;
        };
        let looked = std::mem::replace(&mut self.looked, Sought::Nothing(None));
        let sought = match looked {
            // It was the local store's: the remote one may have a newer one.
            Sought::Present(Present { digest: None, .. }) => {
                self.context.look_remotely(&leases, &self.key, &self.lead.stamp(), &mut self.load).await
            }
            sought => sought,
        };
        match sought {
            Sought::Present(present) if self.replaces(&present) => {
                self.previous = Some(present.value);
                self.claim(leases, present.digest).await;
            }
            Sought::Present(present) => self.found(present.value, asked),
            // It was invalidated meanwhile.
            Sought::Nothing(None) if self.is_needless() => {}
            Sought::Nothing(undecodable) => self.claim(leases, undecodable).await,
            Sought::Unknown(error) => self.cut_off(error).await,
        }
    }

    /// Whether this is a value that the load is there to replace.
    fn replaces(&self, present: &Present<L::Value>) -> bool {
        match present.phase {
            Phase::Fresh => false,
            Phase::Due => self.is_reload,
            Phase::Stale => true,
        }
    }

    /// Whether nobody would get what this reload loads: nobody waits for it, and it cannot replace anything.
    fn is_needless(&self) -> bool {
        self.is_reload && self.lead.is_unattended()
    }

    /// Somebody else has loaded.
    fn found(self, value: L::Value, asked: Asked) {
        self.context.pauses.end(self.key.hash());
        self.lead.finish(value, asked);
    }

    /// Gets the lease or somebody else's value. Calls of the store are never cut off half-way, so that a lease which
    /// one of them took is always known here.
    async fn claim(mut self, leases: Leases, mut replacing: Option<Digest>) {
        let policy = self.context.policy;
        let mut rounds = 0;
        while rounds < ROUNDS && !self.lead.is_deserted() {
            // Before the lease, so that other processes need not wait for this one's queue.
            match self.take_slot().await {
                Room::Taken => {}
                Room::Crowded => return self.crowded(),
                Room::Displaced => return self.start_over(),
                Room::Deserted => return,
            }
            let asked = self.lead.ask();
            let claim = leases.claim(&self.key, policy.lease, replacing.as_ref().into());
            // P22 epoch-before-load: both before the loader, and so at once.
            let (claimed, ()) = tokio::join!(claim, self.load.prepare());
            match claimed {
                Ok(Claimed::Leased(lease)) => return self.load_with_lease(lease, replacing).await,
                Ok(Claimed::Hit(stored)) => match self.load.accept(stored, &self.lead.stamp()).await {
                    Ok(present) if self.replaces(&present) => {
                        (self.previous, replacing) = (Some(present.value), present.digest);
                        rounds += 1;
                    }
                    Ok(present) => return self.found(present.value, asked),
                    Err(digest) => {
                        (self.previous, replacing) = (None, Some(digest));
                        rounds += 1;
                    }
                },
                Ok(Claimed::Busy(waiter)) => {
                    if !self.is_late() {
                        self.slot = None;
                        if !self.holds_off() {
                            return self.start_over();
                        }
                        tokio::select! {
                            () = waiter.wait() => {}
                            () = left(&self.lead, self.is_reload) => return self.leave_to_holder(&waiter),
                            // The holder takes longer than a caller may wait.
                            () = tokio::time::sleep_until(self.until) => {}
                        }
                        self.lead.restamp(self.context.stamp(&self.key)); // P1 stamp-before-read
                    }
                    // Not only if the last wait was too long: leases that end at once, one after the other, are no better.
                    if self.is_late() {
                        break;
                    }
                }
                Err(error) => {
                    self.load.remote_failed(&error);
                    return self.cut_off(error).await;
                }
            }
        }
        if !self.is_needless() {
            self.load_uncached().await;
        }
    }

    /// Another process is at it: this one need not ask again before that one's lease ends.
    fn leave_to_holder(self, waiter: &Waiter) {
        if self.is_reload {
            self.context.pauses.busy(self.key.hash(), waiter.rest());
        }
    }

    /// Whether its callers have waited for others as long as they may.
    fn is_late(&mut self) -> bool {
        self.is_late |= self.until <= Instant::now();
        self.is_late
    }

    /// Before a wait for others. `false` if there is no sense in it, because a newer flight of the key has begun, which is
    /// for everybody who waits for this one as well.
    fn holds_off(&mut self) -> bool {
        self.load.waits();
        self.lead.hold_off() || self.is_late
    }

    /// Lets everybody who waits for the flight look again, and then wait for the newer one.
    fn start_over(self) {
        let _ = self.start_over.send(self.load); // the leader may be gone
    }

    /// Waits until the loader may run.
    async fn take_slot(&mut self) -> Room {
        if self.slot.is_some() {
            return Room::Taken;
        }
        let (turns, slots) = (self.context.turns.clone(), self.slots());
        let permit = slots.clone().map(Semaphore::try_acquire_owned).transpose();
        if let (Some(turn), Ok(permit)) = (turns.try_take(&self.key), permit) {
            self.slot = Some(Slot { _turn: Some(turn), _permit: permit });
            return Room::Taken;
        }
        if self.is_needless() {
            // It would only keep others waiting for whom there is nothing to serve.
            self.context.pauses.busy(self.key.hash(), CROWDED);
            return Room::Deserted;
        }
        if !self.holds_off() {
            return Room::Displaced;
        }
        let slot = tokio::select! {
            slot = self.context.wait_for_slot(&self.key, slots, self.until, self.is_late) => slot,
            () = self.lead.deserted() => return Room::Deserted,
        };
        self.lead.restamp(self.context.stamp(&self.key)); // P1 stamp-before-read
        match slot {
            Ok(slot) => {
                self.slot = Some(slot);
                Room::Taken
            }
            Err(room) => room,
        }
    }

    /// The loaders that may run at once, if their number is limited and this one counts.
    fn slots(&self) -> Option<Arc<Semaphore>> {
        self.context.slots.clone().filter(|_| !self.load.is_part())
    }

    /// Too many loads were under way all the time.
    fn crowded(self) {
        let waited = self.context.policy.max_wait;
        self.give_up(Failure::Crowded(waited));
    }

    /// Ends without having loaded.
    fn give_up(mut self, failure: Failure) {
        let value = self.load.failed(failure);
        self.note(&value);
        self.lead.finish_for_all(value);
    }

    /// Begins or ends the pause before the next reload.
    fn note(&self, value: &L::Value) {
        match L::is_failure(value) {
            true if self.is_reload => self.context.pauses.failed(self.key.hash()),
            true => {}
            false => self.context.pauses.end(self.key.hash()),
        }
    }

    async fn load_with_lease(mut self, mut lease: Lease, replacing: Option<Digest>) {
        let Some((value, loading)) = self.run_loader().await else {
            // P19 loads-end-with-callers: nobody wants it any more. An error leaves the lease to its time.
            let _ = lease.release().await;
            return;
        };
        let storing = self.lead.ask(); // P23 tags-pinned-before-commit: before the tags are held
        // P3 clean-lease-commits: the store keeps the value, or says that nobody interfered, only under a lease that is held and clean.
        let done = match (self.load.encode(&value).await, &replacing) {
            (Encoded::Store(bytes, ttl), _) => {
                let replacing = match &replacing {
                    Some(seen) if self.previous_has_ended() => Replacing::Ended(seen),
                    seen => seen.as_ref().into(),
                };
                lease.commit(&bytes, ttl, replacing).await
            }
            (Encoded::Renew(ttl), Some(kept)) => lease.touch(kept, ttl).await,
            (Encoded::Remove, Some(seen)) if !self.previous_has_ended() => {
                lease.touch(seen, Duration::ZERO).await
            }
            (Encoded::Nothing | Encoded::Remove | Encoded::Renew(_), _) => {
                let clean = lease.release().await;
                clean.map(|clean| if clean { Committed::Stored } else { Committed::Refused })
            }
            (Encoded::Refused, _) => {
                let _ = lease.release().await; // an error leaves the lease to its time
                self.load.refused(Refusal::Outdated);
                return self.lead.finish(value, loading); // P16 only-for-earlier-callers
            }
        };
        if L::is_failure(&value) {
            return self.lead.finish_for_all(value); // it is not older than anything
        }
        match done {
            Ok(how @ (Committed::Stored | Committed::Tracked { .. })) => {
                if !self.load.not_due().is_zero() {
                    self.context.pauses.not_due(self.key.hash(), self.load.not_due());
                }
                self.load.committed(&value, how).await; // P4 l1-read-from-l2, if there is anything to keep
                return self.lead.finish(value, storing);
            }
            Ok(Committed::Refused) => self.load.refused(Refusal::Lease),
            Err(error) => self.load.remote_failed(&error),
        }
        // P16 only-for-earlier-callers: it may be older than a write that has ended since the load began.
        self.lead.finish(value, loading);
    }

    /// Whether the value that is to be replaced has expired by itself meanwhile.
    fn previous_has_ended(&self) -> bool {
        self.previous.as_ref().is_some_and(|previous| self.load.has_ended(previous))
    }

    /// The remote store is out of reach.
    async fn cut_off(self, error: StoreError) {
        if self.is_needless() {
            return; // what it loads would be kept for a short time at most
        }
        match self.context.policy.needs_remote {
            true => self.give_up(Failure::CutOff(error)),
            false => self.load_without_remote(Kept::Degraded).await,
        }
    }

    /// Loads while the flight's stamp takes the lease's place: in this process nothing older is kept or shared.
    async fn load_without_remote(mut self, kept: Kept) {
        match self.take_slot().await {
            Room::Taken => {}
            Room::Crowded => return self.crowded(),
            Room::Displaced => return self.start_over(),
            Room::Deserted => return,
        }
        // P1 stamp-before-read: anew, because the lane's loss, which led here, has made the flight's first stamp out of date.
        self.lead.restamp(self.context.stamp(&self.key));
        let Some((value, loading)) = self.run_loader().await else { return };
        if L::is_failure(&value) {
            return self.lead.finish_for_all(value);
        }
        let (stamp, storing) = (self.lead.stamp(), self.lead.ask());
        if self.load.keep(&value, &stamp, kept)
            && self.context.generations.is_current(self.key.hash(), &stamp)
        {
            // P16 only-for-earlier-callers: of what other processes have written since it began, nobody has told this one.
            self.lead.finish(value, if kept == Kept::Local { storing } else { loading });
        } else {
            self.load.refused(Refusal::Outdated);
            self.lead.finish(value, loading); // P16 only-for-earlier-callers
        }
    }

    /// Loads for those who have waited for others long enough.
    pub(crate) async fn run_alone(mut self) {
        self.is_late = true;
        match self.context.leases {
            Some(_) => self.load_uncached().await,
            None => self.load_without_remote(Kept::Local).await,
        }
    }

    /// Loads without a lease while somebody else holds it: nothing is kept.
    async fn load_uncached(mut self) {
        match self.take_slot().await {
            Room::Taken => {}
            Room::Crowded => return self.crowded(),
            Room::Displaced => return self.start_over(),
            Room::Deserted => return,
        }
        self.lead.restamp(self.context.stamp(&self.key)); // P1 stamp-before-read
        match self.run_loader().await {
            Some((value, _)) if L::is_failure(&value) => self.lead.finish_for_all(value),
            Some((value, loading)) => self.lead.finish(value, loading), // P16 only-for-earlier-callers
            None => {}
        }
    }

    /// Runs the loader within its limits; `None` if nobody waits for it any more.
    async fn run_loader(&mut self) -> Option<(L::Value, Asked)> {
        let loading = self.lead.ask();
        let (limit, previous) = (self.context.policy.load_timeout, self.previous.clone());
        let load = AssertUnwindSafe(async { self.load.load(previous).await }).catch_unwind();
        // A panic leaves nothing behind that anybody would see: the loader is dropped with the flight.
        let ended = tokio::select! {
            biased; // a loader that nobody waits for is not even started
            () = self.lead.deserted() => return None,
            ended = timeout(limit, load) => ended,
        };
        let value = match ended {
            Ok(Ok(value)) => value,
            Ok(Err(_panic)) => self.load.failed(Failure::Panicked),
            Err(_elapsed) => self.load.failed(Failure::TimedOut(limit)),
        };
        self.slot = None;
        self.note(&value);
        Some((value, loading))
    }
}

impl Context {
    async fn wait_for_slot(
        &self,
        key: &Key,
        slots: Option<Arc<Semaphore>>,
        until: Instant,
        is_late: bool,
    ) -> Result<Slot, Room> {
        let in_time = timeout_at(until, self.turns.take(key, is_late));
        // If a loader may not take longer than others are waited for, its own limit ends the wait for it: then no clock need
        // decide which of the two is first. The limits are the row's own.
        let turn = match (self.policy.load_timeout <= self.policy.max_wait, in_time.await) {
            (_, Ok(turn)) => Some(turn),
            (true, Err(_elapsed)) => Some(self.turns.take(key, true).await),
            (false, Err(_elapsed)) => None,
        };
        let permit = match slots {
            Some(slots) => match timeout_at(until, slots.acquire_owned()).await {
                Ok(Ok(permit)) => Some(permit),
                _ => return Err(Room::Crowded),
            },
            None => None,
        };
        Ok(Slot { _turn: turn, _permit: permit })
    }
}

/// Waits until nobody is there for whom it is worth waiting for another process.
async fn left<V>(lead: &Lead<V>, is_reload: bool) {
    match is_reload {
        true => lead.unattended().await,
        false => lead.deserted().await,
    }
}
