mod right;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::{Moment, Phase, Replacing, Stamp, Stored};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{
    caller::{Aging, CutOff, Event, Failure, LoadError, Loader, Lookup, Outcome, Reader},
    context::{Context, Request},
    load_queue::RightToLoad,
    verdict::{Claim, FOR_EVER, Looked, Purpose, Questions, ROUNDS, Stop, Verdict},
    write_back::{Commit, Destination, Kept, Replaced, WrittenBack},
};
use crate::{Claimed, Leader, Lease, Leases, TagEpochs, Waiter, Work};

/// A load under way, in a task of its own: it looks again, acquires a permit, claims the lease,
/// runs the loader, and puts the value into the levels.
pub(crate) struct LoadTask<R: Reader, L: Loader<Value = R::Value>> {
    context: Arc<Context>,
    purpose: Purpose,
    leader: Leader<Outcome<R::Value, L::Error>>,
    request: Request<R, L>,
    /// The look of the leader.
    lookup: Lookup<R::Value>,
    /// Until then it may wait for others: `max_wait` from when its leader came.
    until: Instant,
    /// Whether it has waited so long: it waits for no lease any more, and is next to run.
    is_overdue: bool,
    /// Takes the request back to the leader if that has to start over.
    start_over: oneshot::Sender<Request<R, L>>,
    /// The value that is to be replaced, and its bytes in the remote store.
    previous: Option<R::Value>,
    replaced: Option<Replaced>,
    right: Option<RightToLoad>,
    /// The work whose loader or writer waits for it.
    outer: Option<Work>,
    epochs: TagEpochs,
    questions: Questions,
    /// When its first claim was sent.
    first_claim: Option<Instant>,
    /// Whether a load of another process began after that moment.
    other_load_is_new: bool,
}

impl<R: Reader, L: Loader<Value = R::Value>> LoadTask<R, L> {
    /// Makes a load, and the channel through which its leader gets the request back if the flight
    /// is dropped before the loader was run.
    pub(crate) fn new(
        context: &Arc<Context>,
        leader: Leader<Outcome<R::Value, L::Error>>,
        request: Request<R, L>,
        lookup: Lookup<R::Value>,
        purpose: Purpose,
        came: Instant,
    ) -> (Self, oneshot::Receiver<Request<R, L>>) {
        let max_wait = context.config.limits.max_wait;
        let (start_over, given_back) = oneshot::channel();
        let task = Self {
            context: context.clone(),
            purpose,
            leader,
            request,
            lookup,
            until: came
                .checked_add(max_wait)
                .unwrap_or_else(|| came + FOR_EVER),
            is_overdue: purpose == Purpose::Overdue,
            start_over,
            previous: None,
            replaced: None,
            right: None,
            // Nobody waits for a reload.
            outer: context.outer().filter(|_| purpose != Purpose::Reload),
            epochs: TagEpochs::default(),
            questions: Questions::default(),
            first_claim: None,
            other_load_is_new: false,
        };
        (task, given_back)
    }

    pub(crate) async fn run(mut self) {
        let ended = self.try_load().await;
        self.finish(ended);
    }

    /// The way of a load.
    async fn try_load(&mut self) -> Result<Verdict<R::Value>, Stop<L::Error>> {
        let context = self.context.clone();
        match (self.purpose, context.leases()) {
            (Purpose::Overdue, Some(_)) => return self.load_uncached().await,
            (Purpose::Overdue | Purpose::Refresh, None) => return self.load_locally(None).await,
            (Purpose::Refresh, Some(_)) => self.renew_stamp(),
            (Purpose::Fill | Purpose::Reload, _) => match self.look_again().await? {
                Looked::Found(value) => return Ok(Verdict::Found(value)),
                Looked::CutOff(cut_off) => return self.load_cut_off(cut_off).await,
                Looked::Missing => {}
            },
        }
        let Some(leases) = context.leases() else {
            return self.load_locally(None).await;
        };
        match self.claim(leases).await? {
            Claim::Found(value) => Ok(Verdict::Found(value)),
            Claim::Leased(lease) => self.load_with_lease(lease).await,
            Claim::CutOff(cut_off) => self.load_cut_off(cut_off).await,
            Claim::Overdue => self.load_uncached().await,
        }
    }

    /// Ends the flight: the one place where it is decided for whom a value is.
    // P16 only-for-earlier-callers: for callers that came before the question that it answers
    fn finish(self, ended: Result<Verdict<R::Value>, Stop<L::Error>>) {
        let (backoff, key) = (&self.context.backoff, self.request.key.hash());
        let verdict = match ended {
            Ok(verdict) => verdict,
            // An error is not older than anything.
            Err(Stop::Failed(error)) => {
                if self.purpose == Purpose::Reload {
                    backoff.failed(key);
                }
                return self.leader.finish_for_all(Err(error));
            }
            // All who wait for the flight look again, and then wait for the newer one.
            Err(Stop::Displaced) => return drop(self.start_over.send(self.request)),
            Err(Stop::Deserted) => return,
        };
        backoff.end(key);
        let (value, asked) = match verdict {
            Verdict::Found(value) => (value, self.questions.read),
            Verdict::Kept { value, not_due } => {
                if !not_due.is_zero() {
                    backoff.not_due(key, not_due);
                }
                (value, self.questions.store)
            }
            // It may be older than a write that has ended since the load began.
            Verdict::Unkept(value) => (value, self.questions.load),
        };
        self.leader.finish(Ok(value), asked);
    }

    /// Looks again: an earlier flight may have ended between the leader's look into the local level
    /// and the start of this one.
    async fn look_again(&mut self) -> Result<Looked<R::Value>, Stop<L::Error>> {
        self.questions.read = self.leader.ask();
        let local = match self.request.reader.look(&self.request.key) {
            Lookup::Fresh(value) => return Ok(Looked::Found(value)),
            Lookup::Aging(aging) if !self.replaces(&aging) => {
                return Ok(Looked::Found(aging.value));
            }
            Lookup::Aging(aging) => Some(aging),
            Lookup::Absent(_) | Lookup::Unreachable(_) => None,
        };
        let context = self.context.clone();
        let Some(leases) = context.leases() else {
            if local.is_none() && self.is_needless() {
                return Err(Stop::Deserted);
            }
            self.previous = local.map(|aging| aging.value);
            return Ok(Looked::Missing);
        };
        let lookup = match std::mem::replace(&mut self.lookup, Lookup::Absent(None)) {
            // It was the local level's: the remote one may have a newer one.
            Lookup::Aging(Aging { digest: None, .. }) => {
                let (key, stamp) = (&self.request.key, self.leader.stamp());
                context
                    .look_remotely(leases, key, stamp, &self.request.reader)
                    .await
            }
            lookup => lookup,
        };
        if matches!(lookup, Lookup::Absent(None)) && self.is_needless() {
            return Err(Stop::Deserted); // it was invalidated meanwhile
        }
        Ok(self.take(lookup))
    }

    /// Takes a value from the remote store, or replaces its bytes.
    fn take(&mut self, lookup: Lookup<R::Value>) -> Looked<R::Value> {
        (self.previous, self.replaced) = match lookup {
            Lookup::Fresh(value) => return Looked::Found(value),
            Lookup::Aging(aging) if !self.replaces(&aging) => return Looked::Found(aging.value),
            Lookup::Unreachable(cut_off) => return Looked::CutOff(cut_off),
            Lookup::Aging(aging) => {
                let replaced = Replaced::by(aging.digest, aging.ends);
                (Some(aging.value), replaced)
            }
            Lookup::Absent(undecodable) => (None, Replaced::by(undecodable, Moment::NEVER)),
        };
        Looked::Missing
    }

    /// Whether this is a value that the load is there to replace.
    fn replaces(&self, aging: &Aging<R::Value>) -> bool {
        match aging.phase {
            Phase::Fresh => false,
            Phase::Due => self.purpose == Purpose::Reload,
            Phase::Stale => true,
        }
    }

    /// Whether nobody would get the loaded value: nobody waits for it, and it cannot replace
    /// anything.
    fn is_needless(&self) -> bool {
        self.purpose == Purpose::Reload && self.leader.is_unattended()
    }

    /// Gets the lease, or another load's value. Calls of the store are never cut off half-way, so
    /// that a lease which one of them took is always known here.
    async fn claim(&mut self, leases: &Leases) -> Result<Claim<R::Value>, Stop<L::Error>> {
        let lease = self.context.config.limits.lease;
        let mut rounds = 0;
        while rounds < ROUNDS && !self.leader.is_deserted() {
            // Before the lease, so that other processes need not wait for this one's queue.
            self.acquire_right().await?;
            self.questions.read = self.leader.ask();
            let asked = Instant::now();
            let first_claim = *self.first_claim.get_or_insert(asked);
            let (context, key) = (&self.context, &self.request.key);
            let replacing = self.replaced.as_ref().map(|seen| &seen.digest);
            let claim = leases.claim(key, lease, Replacing::from(replacing));
            // P22 epoch-before-load: both before the loader, and so at once
            let (claimed, epochs) = tokio::join!(claim, context.tag_epochs(key));
            self.epochs = epochs;
            match claimed {
                Ok(Claimed::Leased(lease)) => return Ok(Claim::Leased(lease)),
                Ok(Claimed::Hit(stored)) => match self.take_hit(stored).await {
                    Some(value) => return Ok(Claim::Found(value)),
                    None => rounds += 1,
                },
                Ok(Claimed::Busy(waiter)) => {
                    if self.is_in_doubt(&waiter, first_claim, asked) {
                        continue; // a second question, sent later, tells more about the holder
                    }
                    if !self.is_overdue() {
                        self.wait_for_holder(waiter).await?;
                    }
                    // Not only if the last wait was too long: leases that end at once, one after
                    // the other, are no better.
                    if self.is_overdue() {
                        break;
                    }
                }
                Err(error) => {
                    self.observe(Event::RemoteFailed(&error));
                    let asked = self.leader.stamp();
                    return Ok(Claim::CutOff(CutOff { error, asked }));
                }
            }
        }
        if self.is_needless() {
            Err(Stop::Deserted)
        } else {
            Ok(Claim::Overdue)
        }
    }

    /// Takes the value that a claim has found, unless it is to be replaced.
    async fn take_hit(&mut self, stored: Stored) -> Option<R::Value> {
        if self.purpose == Purpose::Refresh && !self.other_load_is_new {
            // It may be from a load that began before the callers came.
            self.replaced = Some(Replaced::of(&stored, &self.context.config.clock));
            return None;
        }
        let (key, stamp) = (&self.request.key, self.leader.stamp());
        let lookup = self
            .context
            .accept(key, stored, stamp, &self.request.reader)
            .await;
        match self.take(lookup) {
            Looked::Found(value) => Some(value),
            Looked::Missing | Looked::CutOff(_) => None,
        }
    }

    /// Whether a refresh should ask again, to find out whether the holder's load began after its
    /// first claim, so that it need not load by itself.
    fn is_in_doubt(&mut self, holder: &Waiter, first_claim: Instant, asked: Instant) -> bool {
        let lease = self.context.config.limits.lease;
        self.other_load_is_new |= holder.is_newer_than(first_claim, asked, lease);
        self.purpose == Purpose::Refresh && !self.other_load_is_new && asked == first_claim
    }

    /// Waits until the lease may be free that another process holds, as long as its callers may
    /// wait.
    async fn wait_for_holder(&mut self, waiter: Waiter) -> Result<(), Stop<L::Error>> {
        self.right = None;
        if !self.is_worth_waiting() {
            return Err(Stop::Displaced);
        }
        tokio::select! {
            biased; // in one order, so that a simulation can be repeated
            () = waiter.wait() => {}
            () = self.purpose.until_left(&self.leader) => {
                if self.purpose == Purpose::Reload {
                    // This process need not ask again before the holder's lease ends.
                    self.context.backoff.busy(self.request.key.hash(), waiter.rest());
                }
                return Err(Stop::Deserted);
            }
            // The holder takes longer than a caller may wait.
            () = tokio::time::sleep_until(self.until) => {}
        }
        self.renew_stamp();
        Ok(())
    }

    /// Whether its callers have waited for others as long as they may.
    fn is_overdue(&mut self) -> bool {
        self.is_overdue |= self.until <= Instant::now();
        self.is_overdue
    }

    /// Before a wait for others. `false` if there is no sense in it, because a newer flight of the
    /// key has begun, which is for the callers of this one as well.
    fn is_worth_waiting(&mut self) -> bool {
        self.observe(Event::Waiting);
        self.leader.about_to_wait() || self.is_overdue
    }

    // P1 stamp-before-read: after each wait, and before each load without a lease
    fn renew_stamp(&self) {
        self.take_stamp(self.context.stamp(&self.request.key));
    }

    fn take_stamp(&self, stamp: Stamp) {
        self.leader.renew_stamp(stamp);
        if let Some(RightToLoad {
            place: Some(place), ..
        }) = &self.right
        {
            place.renew(stamp);
        }
    }

    /// Loads under a lease.
    async fn load_with_lease(
        &mut self,
        mut lease: Lease,
    ) -> Result<Verdict<R::Value>, Stop<L::Error>> {
        let value = match self.run_loader().await {
            Ok(value) => value,
            Err(stop) => {
                // P19 loads-end-with-callers: an error leaves the lease to its time
                let _ = lease.release().await;
                return Err(stop);
            }
        };
        self.questions.store = self.leader.ask(); // P23 tags-pinned-before-commit: before both
        let (replaced, clock) = (self.replaced.as_ref(), &self.context.config.clock);
        let commit = Destination::Remote(Commit {
            lease: &mut lease,
            replaced,
            clock,
        });
        let Request { key, loader, .. } = &mut self.request;
        let written = loader.write_back(key, &value, self.epochs, commit).await;
        Ok(self.judge(value, written))
    }

    /// Loads although the remote store is out of reach, if the policy allows it.
    async fn load_cut_off(
        &mut self,
        CutOff { error, asked }: CutOff,
    ) -> Result<Verdict<R::Value>, Stop<L::Error>> {
        if self.is_needless() {
            return Err(Stop::Deserted); // its value would be kept for a short time at most
        }
        if self.context.config.limits.needs_remote {
            return Err(self.failed(Failure::CutOff(error), Duration::ZERO));
        }
        self.load_locally(Some(asked)).await
    }

    /// Loads while the flight's stamp takes the lease's place: in this process nothing older is
    /// kept or shared. `asked` is the stamp from before a remote store was asked that is away.
    async fn load_locally(
        &mut self,
        asked: Option<Stamp>,
    ) -> Result<Verdict<R::Value>, Stop<L::Error>> {
        self.acquire_right().await?;
        let now = self.context.stamp(&self.request.key);
        let kept = asked.map_or(Kept::Local, |_| Kept::Degraded);
        // P31 kept-only-while-away: the lane may be back since then, and tracks nothing of this
        let stamp = asked.map_or(now, |asked| now.with_scope_of(&asked));
        self.take_stamp(stamp);
        let value = self.run_loader().await?;
        self.questions.store = self.leader.ask();
        let local = Destination::Local { stamp, kept };
        let Request { key, loader, .. } = &mut self.request;
        let written = loader.write_back(key, &value, self.epochs, local).await;
        let (generations, hash) = (self.context.generations(), self.request.key.hash());
        let written = written.if_current(generations.is_current(hash, &stamp));
        Ok(match (self.judge(value, written), kept) {
            // Nobody has told this process of what other processes have written since.
            (verdict, Kept::Degraded) => verdict.for_earlier_callers(),
            (verdict, _) => verdict,
        })
    }

    /// Loads without a lease while another process holds it: nothing is kept.
    async fn load_uncached(&mut self) -> Result<Verdict<R::Value>, Stop<L::Error>> {
        self.acquire_right().await?;
        self.renew_stamp();
        Ok(Verdict::Unkept(self.run_loader().await?))
    }

    /// Runs the loader within its limits.
    async fn run_loader(&mut self) -> Result<R::Value, Stop<L::Error>> {
        self.questions.load = self.leader.ask();
        if let Some(tags) = &self.context.config.tags {
            self.epochs.own = tags.own_epoch(); // P22 epoch-before-load
        }
        let (limit, began) = (self.context.config.limits.load_timeout, Instant::now());
        let Request { key, loader, .. } = &mut self.request;
        let previous = self.previous.clone();
        let (nesting, policy) = (&self.context.config.nesting, self.context.config.policy);
        let work = Work::load(nesting, key, policy, self.outer.as_ref());
        let load = work.run(async { loader.load(key, previous).await });
        let load = AssertUnwindSafe(load).catch_unwind();
        // A panic leaves nothing behind that anybody would see: the loader is dropped with the
        // flight.
        let ended = tokio::select! {
            biased; // a loader that nobody waits for is not even started
            () = self.leader.deserted() => return Err(Stop::Deserted),
            ended = timeout(limit, load) => ended,
        };
        self.right = None;
        match ended {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(Stop::Failed(LoadError::Loader(error))),
            Ok(Err(_panic)) => Err(self.failed(Failure::Panicked, began.elapsed())),
            Err(_elapsed) => Err(self.failed(Failure::TimedOut(limit), began.elapsed())),
        }
    }

    fn observe(&self, event: Event<'_>) {
        self.request.reader.observe(&self.request.key, event);
    }

    fn failed(&self, why: Failure, took: Duration) -> Stop<L::Error> {
        self.observe(Event::Failed { why: &why, took });
        Stop::Failed(why.into())
    }

    fn judge(&self, value: R::Value, written: WrittenBack) -> Verdict<R::Value> {
        match written {
            WrittenBack::Done { not_due } => return Verdict::Kept { value, not_due },
            WrittenBack::Refused(why) => self.observe(Event::Refused(why)),
            WrittenBack::Failed(error) => self.observe(Event::RemoteFailed(&error)),
        }
        Verdict::Unkept(value)
    }
}
