use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use deadpool_redis::redis::{PushInfo, RedisResult, aio::MultiplexedConnection, cmd};
use larder_core::{Invalidated, LaneState, Push, StoreError, Token};
use tokio::{
    sync::{Mutex, Notify},
    time::Instant,
};
use tracing::{info, warn};

use crate::{
    bus::Bus,
    error::{describe, is_loss},
    pending::Pending,
    push::{Listeners, Said, text},
    scripts,
    wire::{Voice, Wire},
};

/// One connection to Redis, shared by all who ask for the keys of this lane, and replaced when it fails.
pub(crate) struct Lane {
    index: u16,
    shown: String,
    command_timeout: Duration,
    max_pending: usize,
    listeners: Arc<Listeners>,
    bus: Arc<Bus>,
    /// The connection that commands take; none while there is none to rely on.
    live: ArcSwapOption<Live>,
    pending: Mutex<Pending>,
    /// How much that is, for who only wants to know.
    unsent: AtomicU64,
    /// Whether anything was asked since the keeper last looked.
    used: AtomicBool,
    /// Wakes the keeper: the connection failed, or says that it ended.
    pub(crate) woken: Notify,
    probe: Probe,
}

pub(crate) struct Live {
    wire: Wire,
    tracks: bool,
}

/// The proof that pushes arrive.
struct Probe {
    /// The key that the lane reads, and another connection writes.
    name: String,
    sent: std::sync::Mutex<Option<Instant>>,
    heard: AtomicU64,
    /// Whether the last probe did not come back. It outlives the connection.
    deaf: AtomicBool,
}

/// How often an invalidation is tried on connections that fail under it, before it is left to the next one.
pub(crate) const TRIES: usize = 3;

impl Lane {
    pub(crate) fn new(
        index: u16,
        shown: String,
        config: &crate::RedisConfig,
        listeners: Arc<Listeners>,
        bus: Arc<Bus>,
    ) -> Self {
        let probe = Probe {
            name: format!("larder:probe:{}", Token::new().as_str()),
            sent: std::sync::Mutex::default(),
            heard: AtomicU64::new(0),
            deaf: AtomicBool::new(false),
        };
        Self {
            index,
            shown,
            command_timeout: config.command_timeout,
            max_pending: config.max_pending,
            listeners,
            bus,
            live: ArcSwapOption::empty(),
            pending: Mutex::default(),
            unsent: AtomicU64::new(0),
            used: AtomicBool::new(false),
            woken: Notify::new(),
            probe,
        }
    }

    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// How long a command may take.
    pub(crate) fn patience(&self) -> Duration {
        self.command_timeout
    }

    // P12, P26, P27: what tells of changes is never assumed.
    pub(crate) fn state(&self) -> LaneState {
        match &*self.live.load() {
            None => LaneState::Down,
            Some(live) if live.tracks && !self.is_deaf() => LaneState::Tracking,
            Some(live) if !live.tracks && self.bus.is_up() => LaneState::Subscribed,
            Some(_) => LaneState::Untracked,
        }
    }

    /// Whether the server is to push changes to this lane.
    pub(crate) fn tracks(&self) -> bool {
        self.live.load().as_ref().is_some_and(|live| live.tracks)
    }

    /// Whether the lane is connected to a server that pushes nothing.
    pub(crate) fn needs_bus(&self) -> bool {
        self.live.load().as_ref().is_some_and(|live| !live.tracks)
    }

    /// Whether the last probe did not come back.
    pub(crate) fn is_deaf(&self) -> bool {
        self.probe.deaf.load(Ordering::Acquire)
    }

    /// Asks something on the lane's connection.
    pub(crate) async fn ask<T>(
        &self,
        key: &str,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let Some(live) = self.live.load_full() else {
            return Err(StoreError::Unreachable { address: self.shown.clone(), source: None });
        };
        self.ask_on(&live, key, ask).await
    }

    async fn ask_on<T>(
        &self,
        live: &Arc<Live>,
        key: &str,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        self.used.store(true, Ordering::Relaxed); // Relaxed: a hint for the keeper
        ask(live.wire.clone()).await.map_err(|error| {
            if is_loss(&error) {
                self.lose(live, &error);
            }
            describe(error, &self.shown, self.command_timeout, key)
        })
    }

    /// Gives up a connection, unless a newer one has taken its place.
    ///
    /// P10: first nobody can get the connection any more, then what was read through it is out of date. In the other
    /// order a reader could take its stamp, and then read through a connection whose pushes nobody hears.
    fn lose(&self, live: &Arc<Live>, reason: &dyn fmt::Display) {
        let current = self.live.compare_and_swap(live, None);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            self.listeners.tell(Push::Lane(self.index));
            self.listeners.tally.lanes_lost.add();
            warn!(address = %self.shown, lane = self.index, %reason, "lost a connection to Redis");
            self.woken.notify_one();
        }
    }

    /// Handles what the connection says by itself.
    // P17: called by the connection's driver, so a push is handled before any later reply is delivered.
    pub(crate) fn pushed(&self, push: &PushInfo) {
        match Said::by(push) {
            Said::Changed(names) => names.iter().filter_map(text).for_each(|name| {
                if name == self.probe.name {
                    self.probe.hear(&self.listeners);
                } else {
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

    /// Takes a new connection into service, once everything that could not be sent has been done on it.
    ///
    /// # Errors
    /// What the connection said; it is not in service then, and nothing is forgotten.
    pub(crate) async fn publish(
        &self,
        connection: MultiplexedConnection,
        tracks: bool,
    ) -> Result<(), StoreError> {
        // P26: who is not told by the server is told by others, and tells them.
        let wire = Wire { connection, voice: if tracks { Voice::silent() } else { self.bus.voice() } };
        // Held to the end, so that what is invalidated meanwhile waits, and is then sent like any other: a key that is
        // remembered a second time is not forgotten with the first, and there is an end to what is to be sent.
        let mut pending = self.pending.lock().await;
        let drained = pending.drain(&wire).await; // P11
        self.note_unsent(&pending);
        drained.map_err(|error| describe(error, &self.shown, self.command_timeout, ""))?;
        self.listeners.tell(Push::Lane(self.index)); // P10: before anybody reads through it
        self.live.store(Some(Arc::new(Live { wire, tracks })));
        self.bus.want();
        Ok(())
    }

    /// Invalidates a key, or remembers to.
    pub(crate) async fn invalidate(&self, key: &str, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        for _ in 0..TRIES {
            let Some(live) = self.live.load_full() else {
                match self.remember(key, own).await? {
                    true => return Ok(Invalidated::Deferred),
                    false => continue, // it is back
                }
            };
            match self.ask_on(&live, key, async |on| scripts::invalidate(on, key, own).await).await {
                Ok(()) => return Ok(Invalidated::Done),
                Err(StoreError::TimedOut { .. } | StoreError::Unreachable { .. }) => {}
                Err(refused) => return Err(refused),
            }
        }
        // Connections come and fail: leave it to the next one, and see to it that there is a next one.
        while !self.remember(key, own).await? {
            self.give_up();
        }
        Ok(Invalidated::Deferred)
    }

    /// Has the connection replaced, because invalidations fail on it.
    pub(crate) fn give_up(&self) {
        if let Some(live) = self.live.load_full() {
            self.lose(&live, &"an invalidation failed on it");
        }
    }

    /// Remembers an invalidation while the lane is down; `false` if it is not down.
    async fn remember(&self, key: &str, own: Option<&Token>) -> Result<bool, StoreError> {
        self.remember_in(|pending| pending.has_key(key), |pending| pending.add_key(key, own)).await
    }

    /// Remembers the invalidation of a tag while the lane is down; `false` if it is not down.
    pub(crate) async fn remember_tag(&self, tag: &str) -> Result<bool, StoreError> {
        self.remember_in(|pending| pending.has_tag(tag), |pending| pending.add_tag(tag)).await
    }

    async fn remember_in(
        &self,
        is_there: impl FnOnce(&Pending) -> bool,
        add: impl FnOnce(&mut Pending),
    ) -> Result<bool, StoreError> {
        let mut pending = self.pending.lock().await;
        if self.live.load().is_some() {
            return Ok(false);
        }
        if pending.len() >= self.max_pending && !is_there(&pending) {
            return Err(StoreError::TooManyPending { address: self.shown.clone(), pending: pending.len() });
        }
        add(&mut pending);
        self.note_unsent(&pending);
        Ok(true)
    }

    fn note_unsent(&self, pending: &Pending) {
        let many = u64::try_from(pending.len()).unwrap_or(u64::MAX);
        self.unsent.store(many, Ordering::Release); // pairs with `pending`: who sees none sees that all was sent
    }

    /// How many invalidations could not be sent yet.
    pub(crate) fn pending(&self) -> u64 {
        self.unsent.load(Ordering::Acquire)
    }

    /// Tries whether the lane is told of changes: reads its own key, has it written by `write`, and pings. `false` says
    /// that it could not be written.
    // P27: the push was sent before the answer to the ping was, so there is nothing to wait for.
    pub(crate) async fn probe(&self, write: impl AsyncFnOnce(&str) -> RedisResult<()>) -> bool {
        let Some(live) = self.live.load_full().filter(|live| live.tracks) else { return true };
        let name = self.probe.name.as_str();
        let read = async |mut on: Wire| cmd("GET").arg(name).exec_async(&mut on.connection).await;
        if self.ask_on(&live, name, read).await.is_err() {
            return true; // a loss is told as such
        }
        let before = self.probe.heard.load(Ordering::Acquire);
        *self.probe.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if write(name).await.is_err() {
            return false;
        }
        if self.ping(&live).await.is_err() {
            return true;
        }
        if self.probe.heard.load(Ordering::Acquire) != before {
            if self.probe.deaf.swap(false, Ordering::AcqRel) {
                // What was read in between may not be tracked.
                self.listeners.tell(Push::Lane(self.index));
                info!(address = %self.shown, lane = self.index, "changes are pushed again");
            }
            return true;
        }
        self.listeners.tally.probe_failures.add();
        let was_deaf = self.probe.deaf.swap(true, Ordering::AcqRel); // in the order of P10: before the advance
        self.listeners.tell(Push::Lane(self.index));
        if !was_deaf {
            warn!(address = %self.shown, lane = self.index,
                "a connection is alive, but changes are not pushed to it: until they are, entries in L1 live at most \
                 as long as degraded_l1_ttl says");
            self.lose(&live, &"it is deaf"); // a new one may hear
        }
        true
    }

    /// P13: pings the connection if nothing was asked since the last look, or if `now` is set; returns whether the
    /// lane is still live.
    pub(crate) async fn check(&self, now: bool) -> bool {
        let Some(live) = self.live.load_full() else { return false };
        if self.used.swap(false, Ordering::Relaxed) && !now {
            return true;
        }
        // A server that refuses to answer a ping (it may be loading) is there all the same.
        let _refused = self.ping(&live).await;
        self.used.store(false, Ordering::Relaxed);
        self.live.load().is_some()
    }

    async fn ping(&self, live: &Arc<Live>) -> Result<(), StoreError> {
        self.ask_on(live, "", async |mut on| cmd("PING").exec_async(&mut on.connection).await).await
    }
}

impl Probe {
    fn hear(&self, listeners: &Listeners) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sent) = sent {
            listeners.tally.note_lag(sent.elapsed());
        }
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
