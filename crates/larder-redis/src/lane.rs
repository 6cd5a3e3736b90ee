use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use deadpool_redis::redis::{PushInfo, RedisError, RedisResult, cmd};
use futures_util::future::join_all;
use larder_core::{Committed, Invalidated, Key, LaneState, Push, RemoteEvent, StoreError, Token};
use tokio::sync::{Mutex, Notify};
use tracing::{info, warn};

use crate::{
    breaker::{Breaker, Permit},
    bus::Bus,
    endpoint::Endpoint,
    error::{describe, is_final, is_loss, is_outage},
    keys::ORDER,
    live::{Live, Node, Probe},
    nodes::Opened,
    pending::Pending,
    probe::Writers,
    push::{Listeners, Said, text},
    scripts,
    wire::Wire,
};

/// One connection to Redis, or one to each master of a cluster, shared by all who ask for the keys of this lane. When
/// one of them fails, all are replaced.
pub(crate) struct Lane {
    index: u16,
    shown: String,
    connect_timeout: Duration,
    command_timeout: Duration,
    max_unsent: usize,
    listeners: Arc<Listeners>,
    bus: Arc<Bus>,
    /// Shared by all lanes of the store.
    pub(crate) breaker: Arc<Breaker>,
    /// The connections that commands take; none while there are none to rely on.
    live: ArcSwapOption<Live>,
    pending: Mutex<Pending>,
    /// What was remembered before the connections were made, while it is sent through them.
    sending: Mutex<Pending>,
    /// How much these are together, for who only wants to know.
    unsent: AtomicU64,
    /// Wakes the keeper: a connection failed, or says that it ended.
    pub(crate) woken: Notify,
    /// Wakes who waits for the lane to be connected again.
    back: Notify,
    /// Whether the last probe did not come back. It outlives the connections.
    deaf: AtomicBool,
    /// Whether a large value has been met.
    large: AtomicBool,
}

/// How often an invalidation is tried on connections that fail under it, before it is left to the next one.
pub(crate) const TRIES: usize = 3;

/// How often what is remembered meanwhile is sent apart, before those who remember must wait.
const ROUNDS: usize = 4;

impl Lane {
    pub(crate) fn new(
        index: u16,
        shown: String,
        config: &crate::RedisConfig,
        listeners: Arc<Listeners>,
        bus: Arc<Bus>,
        breaker: Arc<Breaker>,
    ) -> Self {
        Self {
            index,
            shown,
            connect_timeout: config.connect_timeout,
            command_timeout: config.command_timeout,
            max_unsent: config.max_unsent,
            listeners,
            bus,
            breaker,
            live: ArcSwapOption::empty(),
            pending: Mutex::default(),
            sending: Mutex::default(),
            unsent: AtomicU64::new(0),
            woken: Notify::new(),
            back: Notify::new(),
            deaf: AtomicBool::new(false),
            large: AtomicBool::new(false),
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// How long a command may take.
    pub(crate) fn call_timeout(&self) -> Duration {
        self.command_timeout
    }

    // P12 tracking-never-assumed, P26 scripts-publish, P27 channel-proves-alive: what tells of changes is never assumed.
    pub(crate) fn state(&self) -> LaneState {
        match &*self.live.load() {
            None => LaneState::Down,
            Some(live) if live.tracks && !self.is_deaf() => match live.nodes() {
                [_] => LaneState::Tracking,
                _ => LaneState::Scattered, // P24 tags-known-by-lane
            },
            Some(live) if !live.tracks && self.bus.is_up() => LaneState::Subscribed,
            Some(_) => LaneState::Untracked,
        }
    }

    /// Whether the lane is connected to a server that pushes nothing.
    pub(crate) fn needs_bus(&self) -> bool {
        self.live.load().as_ref().is_some_and(|live| !live.tracks)
    }

    /// Where the bus may listen, if the lane needs it: at any server, because each is told what is said at another.
    pub(crate) fn bus_endpoint(&self) -> Option<Arc<Endpoint>> {
        let live = self.live.load_full().filter(|live| !live.tracks)?;
        live.nodes().get(fastrand::usize(..live.nodes().len())).map(|node| node.endpoint.clone())
    }

    /// Whether the last probe did not come back.
    pub(crate) fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Acquire)
    }

    // Relaxed, both: a hint which way is better, and either is right.
    pub(crate) fn has_met_large(&self) -> bool {
        self.large.load(Ordering::Relaxed)
    }

    pub(crate) fn meet_large(&self) {
        if !self.has_met_large() {
            self.large.store(true, Ordering::Relaxed);
        }
    }

    /// The connections, if there are any to rely on.
    pub(crate) fn live(&self) -> Result<Arc<Live>, StoreError> {
        if self.breaker.is_open() {
            self.give_up(&"the server is given up"); // the lane's keeper is about to, but a call need not wait for it
        }
        self.live.load_full().ok_or_else(|| self.unreachable())
    }

    pub(crate) fn unreachable(&self) -> StoreError {
        StoreError::Unreachable { address: self.shown.clone(), source: None }
    }

    pub(crate) fn refused(&self, reason: &str) -> StoreError {
        StoreError::Refused { address: self.shown.clone(), reason: reason.to_owned() }
    }

    /// Asks something of this key, on the connection to the server that has it.
    pub(crate) async fn ask<T>(
        &self,
        key: &str,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let live = self.live()?;
        self.ask_on(&live, live.node(key), key, ask).await
    }

    /// Runs a commit of this key, on the connection to the server that has it, which from then on tracks it.
    // P4 l1-read-from-l2
    pub(crate) async fn commit(
        &self,
        key: &str,
        commit: impl AsyncFnOnce(Wire) -> RedisResult<bool>,
    ) -> Result<Committed, StoreError> {
        let live = self.live()?;
        let told = live.tracks && !self.is_deaf();
        let is_done = self.ask_on(&live, live.node(key), key, commit).await?;
        Ok(if is_done { Committed::Tracked { told } } else { Committed::Refused })
    }

    /// Asks something of one server.
    pub(crate) async fn ask_on<T>(
        &self,
        live: &Arc<Live>,
        node: &Node,
        key: &str,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        self.try_on(live, node, ask).await.map_err(|error| self.describe(error, &node.endpoint.shown, key))
    }

    async fn try_on<T>(
        &self,
        live: &Arc<Live>,
        node: &Node,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> RedisResult<T> {
        node.note_used();
        let asked = ask(node.wire.clone()).await;
        if let Err(error) = &asked {
            self.judge(live, node, error);
        }
        asked
    }

    /// Gives up the connections, or the server, if an error says that they are not to be relied on.
    pub(crate) fn judge(&self, live: &Arc<Live>, node: &Node, error: &RedisError) {
        let is_outage = is_outage(error);
        // What fails late on connections that were replaced says nothing about the server of now.
        if is_outage && self.is_in_service(live) {
            self.breaker.trip(error);
        }
        if is_outage || is_loss(error) {
            self.lose(live, &node.endpoint.shown, error);
        }
    }

    pub(crate) fn describe(&self, error: RedisError, address: &str, key: &str) -> StoreError {
        describe(error, address, self.command_timeout, key)
    }

    pub(crate) fn is_in_service(&self, live: &Arc<Live>) -> bool {
        self.live.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, live))
    }

    /// Gives up the connections, unless newer ones have taken their place.
    ///
    /// P10 loss-told-before-successor: first nobody can get them any more, then what was read through them is out of date. In the other
    /// order a reader could take its stamp, and then read through a connection whose pushes nobody hears.
    fn lose(&self, live: &Arc<Live>, address: &str, reason: &dyn fmt::Display) {
        let current = self.live.compare_and_swap(live, None);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            self.listeners.tell(Push::Lane(self.index));
            self.listeners.tally.lanes_lost.add();
            warn!(%address, lane = self.index, %reason, "lost a connection to Redis");
            self.woken.notify_one();
        }
    }

    /// Has the connections replaced by ones that know which master has which slot by now, and waits for them.
    pub(crate) async fn look_anew(&self, live: &Arc<Live>) {
        let back = self.back.notified(); // before the loss, whose end it is
        self.lose(live, &self.shown, &"slots have moved to another master");
        let _ = tokio::time::timeout(self.connect_timeout, back).await; // without them the next call says so
    }

    /// Handles what the connection says by itself.
    // P17 pushes-before-replies: called by the connection's driver, so a push is handled before any later reply is delivered.
    pub(crate) fn pushed(&self, push: &PushInfo) {
        match Said::by(push) {
            Said::Changed(names) => names.iter().filter_map(text).for_each(|name| {
                if !self.hears_probe(name) {
                    self.listeners.tell_name([self.index], name);
                }
            }),
            Said::Emptied => self.listeners.tell(Push::Lane(self.index)),
            Said::Ended => {
                // It may be an older connection's end, so the keeper looks which one it was; to advance is always safe.
                self.listeners.tell(Push::Lane(self.index));
                self.woken.notify_one();
            }
            Said::Other => {}
        }
    }

    /// Takes new connections into service, once everything that could not be sent has been done on them.
    ///
    /// # Errors
    /// What one of them said, or that the permit no longer holds; they are not in service then, and nothing is forgotten.
    pub(crate) async fn publish(&self, opened: &Opened, permit: &Permit<'_>) -> Result<(), StoreError> {
        let live = Live::new(opened, self.bus.voice());
        // P11 unsent-goes-first: a clear may take long, so what is remembered meanwhile is put elsewhere, and sent in the next round.
        let mut sending = self.sending.lock().await;
        for round in 0..ROUNDS {
            self.send(&mut sending, &live).await?;
            let mut pending = self.pending.lock().await;
            if round > 0 && pending.is_brief() {
                break;
            }
            std::mem::swap(&mut *sending, &mut *pending);
        }
        self.send(&mut sending, &live).await?;
        if permit.is_trial() {
            // After what could not be sent: a server without memory takes that, and others need not wait for it.
            self.try_to_write(&live).await?;
        }
        // Pinned to the end, so that what is invalidated meanwhile waits, and is then sent like any other: a key that is
        // remembered a second time is not forgotten with the first, and there is an end to what is to be sent.
        let mut pending = self.pending.lock().await;
        self.send(&mut pending, &live).await?;
        if !permit.holds() {
            return Err(self.unreachable());
        }
        self.listeners.tell(Push::Lane(self.index)); // P10 loss-told-before-successor: before anybody reads through it
        self.live.store(Some(Arc::new(live)));
        self.back.notify_waiters();
        self.bus.want();
        Ok(())
    }

    // P11 unsent-goes-first
    async fn send(&self, unsent: &mut Pending, live: &Live) -> Result<(), StoreError> {
        let (before, mut done) = (unsent.len(), 0);
        let sent = unsent.drain(live, &mut done).await;
        self.note_unsent(before, unsent.len());
        if done > 0 {
            self.listeners.tally.replayed.add_many(done);
            self.listeners.tell_event(RemoteEvent::Resent { count: done });
        }
        sent.map_err(|error| self.describe(error, &self.shown, ""))
    }

    /// Tries whether the server takes writes: without them there are neither leases nor invalidations.
    async fn try_to_write(&self, live: &Live) -> Result<(), StoreError> {
        for node in live.nodes() {
            let name = &node.probe.name;
            let mut set = cmd("SET");
            set.arg(name).arg("trial").arg("PX").arg(1000);
            match set.exec_async(&mut node.wire.connection.clone()).await {
                // That is about the name, and not about the server.
                Err(error) if !is_final(&error) => {
                    return Err(self.describe(error, &node.endpoint.shown, name));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Invalidates a key, or remembers to.
    pub(crate) async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        for _ in 0..TRIES {
            let Some(live) = self.live.load_full() else {
                match self.remember(key, own).await? {
                    true => return Ok(Invalidated::Deferred),
                    false => continue, // it is back
                }
            };
            let ask = async |on| scripts::invalidate(on, key.as_str(), own).await;
            if self.invalidate_on(&live, key.as_str(), ask).await? {
                return Ok(Invalidated::Done);
            }
        }
        // Connections come and fail: leave it to the next one, and see to it that there is a next one.
        while !self.remember(key, own).await? {
            self.give_up(&"an invalidation failed on it");
        }
        Ok(Invalidated::Deferred)
    }

    /// Invalidates a tag, for all lanes; `false` if it could not be sent, and the lane is down.
    pub(crate) async fn invalidate_tag(&self, tag: &str) -> Result<bool, StoreError> {
        let Some(live) = self.live.load_full() else { return Ok(false) };
        self.invalidate_on(&live, ORDER, async |on| scripts::invalidate_tag(on, tag).await).await
    }

    /// `false` says that it must be remembered.
    async fn invalidate_on(
        &self,
        live: &Arc<Live>,
        key: &str,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<()>,
    ) -> Result<bool, StoreError> {
        let node = live.node(key);
        match self.try_on(live, node, ask).await {
            Ok(()) => Ok(true),
            Err(error) if is_final(&error) => Err(self.describe(error, &node.endpoint.shown, key)),
            // P11 unsent-goes-first: also what was refused must be done before anything is read through the lane again.
            Err(error) => {
                self.lose(live, &node.endpoint.shown, &error);
                Ok(false)
            }
        }
    }

    /// Gives up the connections, if there are any.
    pub(crate) fn give_up(&self, reason: &dyn fmt::Display) {
        if let Some(live) = self.live.load_full() {
            self.lose(&live, &self.shown, reason);
        }
    }

    /// Remembers an invalidation while the lane is down; `false` if it is not down.
    async fn remember(&self, key: &Key, own: Option<&Token>) -> Result<bool, StoreError> {
        self.remember_in(|pending| pending.add_key(key, own, self.max_unsent)).await
    }

    /// Remembers the invalidation of a tag while the lane is down; `false` if it is not down.
    pub(crate) async fn remember_tag(&self, tag: &str) -> Result<bool, StoreError> {
        self.remember_in(|pending| {
            pending.add_tag(tag, self.max_unsent);
            true
        })
        .await
    }

    async fn remember_in(&self, add: impl FnOnce(&mut Pending) -> bool) -> Result<bool, StoreError> {
        let mut pending = self.pending.lock().await;
        if self.live.load().is_some() {
            return Ok(false);
        }
        let before = pending.len();
        if !add(&mut pending) {
            return Err(StoreError::TooManyUnsent { address: self.shown.clone(), unsent: before });
        }
        self.note_unsent(before, pending.len());
        drop(pending);
        self.listeners.tell_event(RemoteEvent::Unsent { count: self.pending() });
        Ok(true)
    }

    /// Release pairs with `pending`: who sees none sees that all was sent.
    fn note_unsent(&self, before: usize, after: usize) {
        let many = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        match after >= before {
            true => self.unsent.fetch_add(many(after - before), Ordering::Release),
            false => self.unsent.fetch_sub(many(before - after), Ordering::Release),
        };
    }

    /// How many invalidations could not be sent yet.
    pub(crate) fn pending(&self) -> u64 {
        self.unsent.load(Ordering::Acquire)
    }

    /// Takes note of a push if it is for one of the lane's probes.
    fn hears_probe(&self, name: &str) -> bool {
        let live = name.starts_with(Probe::NAMES).then(|| self.live.load_full()).flatten();
        let Some(probe) = live.as_ref().and_then(|live| live.probe(name)) else { return false };
        if let Some(lag) = probe.hear() {
            self.listeners.tally.note_lag(lag);
        }
        true
    }

    /// Tries whether the lane is told of changes, by each of its servers.
    pub(crate) async fn probe(&self, writers: &mut Writers) {
        let Some(live) = self.live.load_full().filter(|live| live.tracks) else { return };
        let mut all_hear = true;
        for node in live.nodes() {
            match self.hears(&live, node, writers).await {
                Some(true) => {}
                Some(false) => return self.note_deaf(&live, &node.endpoint.shown),
                None => all_hear = false,
            }
        }
        if all_hear && self.deaf.swap(false, Ordering::AcqRel) {
            // What was read in between may not be tracked.
            self.listeners.tell(Push::Lane(self.index));
            info!(address = %self.shown, lane = self.index, "changes are pushed again");
        }
    }

    /// Reads a key of the lane's own, has it written by another connection, and pings. `None` if there is no proof either
    /// way: a loss is told as such.
    // P27 channel-proves-alive: the push was sent before the answer to the ping was, so there is nothing to wait for.
    async fn hears(&self, live: &Arc<Live>, node: &Node, writers: &mut Writers) -> Option<bool> {
        let name = node.probe.name.as_str();
        let read = async |mut on: Wire| cmd("GET").arg(name).exec_async(&mut on.connection).await;
        self.ask_on(live, node, name, read).await.ok()?;
        let before = node.probe.heard();
        node.probe.send();
        writers.write(&node.endpoint, name).await.ok()?;
        self.ping(live, node).await.ok()?;
        let heard = node.probe.heard() != before;
        // Once the lane has newer connections, it does not know the name any more.
        self.is_in_service(live).then_some(heard)
    }

    fn note_deaf(&self, live: &Arc<Live>, address: &str) {
        self.listeners.tally.probe_failures.add();
        let was_deaf = self.deaf.swap(true, Ordering::AcqRel); // in the order of P10 loss-told-before-successor: before the advance
        self.listeners.tell(Push::Lane(self.index));
        if !was_deaf {
            warn!(%address, lane = self.index,
                "a connection is alive, but changes are not pushed to it: until they are, entries in L1 live at most \
                 as long as degraded_l1_ttl says");
            self.lose(live, address, &"it is deaf"); // a new one may hear
        }
    }

    /// P13 silence-is-not-health: pings each connection on which nothing was asked since the last look, or all if `now` is set; returns whether
    /// the lane is still live.
    pub(crate) async fn check(&self, now: bool) -> bool {
        let Some(live) = self.live.load_full() else { return false };
        let idle = live.nodes().iter().filter(|node| !node.used.swap(false, Ordering::Relaxed) || now);
        // At once, so that one that does not answer does not hide another.
        join_all(idle.map(|node| async {
            // What a ping is refused with counts like any other answer.
            let _refused = self.ping(&live, node).await;
            node.used.store(false, Ordering::Relaxed);
        }))
        .await;
        self.live.load().is_some()
    }

    async fn ping(&self, live: &Arc<Live>, node: &Node) -> Result<(), StoreError> {
        self.ask_on(live, node, "", async |mut on| cmd("PING").exec_async(&mut on.connection).await).await
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("index", &self.index)
            .field("state", &self.state())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}
