use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use deadpool_redis::redis::{RedisError, RedisResult, cmd};
use larder_core::{LaneIndex, Push, StoreError, Track};
use tokio::sync::Notify;
use tracing::warn;

use crate::{
    breaker::Breaker,
    command::{publisher::Publisher, target::Target, tracking::Tracks},
    config::RedisConfig,
    connection::session::{Link, Session},
    error::{describe, is_loss, is_outage, words},
    lane::absences::Absences,
    listeners::Listeners,
};

/// The times that an operation is tried on sessions that fail under it.
pub(crate) const TRIES: usize = 3;

/// The session of a lane that is in service, if there is one: commands take it, and their errors
/// may end it.
pub(crate) struct CurrentSession {
    lane: LaneIndex,
    /// The address, as errors and logs show it.
    shown: String,
    connect_timeout: Duration,
    command_timeout: Duration,
    /// The largest value that is read, in bytes.
    max_value_size: usize,
    session: ArcSwapOption<Session>,
    /// The session that is about to be in service.
    next: Mutex<Next>,
    /// Shared by all lanes of the store.
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) listeners: Arc<Listeners>,
    /// Wakes the task that reconnects: a connection failed, or says that it ended.
    suspected: Notify,
    /// Wakes the tasks that wait for the next session.
    replaced: Notify,
    /// Whether a large value has been read or written over any lane of the store.
    has_large_values: Arc<AtomicBool>,
    /// Lookups that found nothing.
    pub(crate) absences: Absences,
}

/// A session that is about to be in service.
#[derive(Default)]
struct Next {
    /// The runs of its servers.
    runs: Vec<String>,
    /// Whether another lane has met a later server since.
    is_overtaken: bool,
}

impl CurrentSession {
    pub(crate) fn new(
        lane: LaneIndex,
        shown: String,
        config: &RedisConfig,
        listeners: Arc<Listeners>,
        breaker: Arc<Breaker>,
        has_large_values: Arc<AtomicBool>,
    ) -> Self {
        Self {
            lane,
            shown,
            connect_timeout: config.connect_timeout,
            command_timeout: config.command_timeout,
            max_value_size: config.max_value_size,
            session: ArcSwapOption::empty(),
            next: Mutex::default(),
            breaker,
            listeners,
            suspected: Notify::new(),
            replaced: Notify::new(),
            has_large_values,
            absences: Absences::default(),
        }
    }

    pub(crate) fn lane(&self) -> LaneIndex {
        self.lane
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The limit on the time of a command.
    pub(crate) fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// The largest value that is read, in bytes.
    pub(crate) fn max_value_size(&self) -> usize {
        self.max_value_size
    }

    /// The session in service, for a command.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] while the lane is down.
    pub(crate) fn get(&self) -> Result<Arc<Session>, StoreError> {
        if self.breaker.is_open() {
            // The task that reconnects is about to do so, but a call need not wait for it.
            self.give_up(&"the circuit breaker is open");
        }
        self.load().ok_or_else(|| self.unreachable())
    }

    /// The session in service, if there is one.
    pub(crate) fn load(&self) -> Option<Arc<Session>> {
        self.session.load_full()
    }

    /// Reads from the session in service without taking a share of it.
    pub(crate) fn peek<T>(&self, read: impl FnOnce(Option<&Session>) -> T) -> T {
        read(self.session.load().as_deref())
    }

    pub(crate) fn is_down(&self) -> bool {
        self.session.load().is_none()
    }

    pub(crate) fn is_in_service(&self, session: &Arc<Session>) -> bool {
        self.session
            .load()
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, session))
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a session that is about to be in service.
    pub(crate) fn announce(&self, session: &Session) {
        *self.next() = Next {
            runs: session.runs(),
            is_overtaken: false,
        };
    }

    /// Gives up what leads to an earlier server than another lane's session: the session in
    /// service, and the one that is about to be.
    pub(crate) fn give_up_other_runs(&self, later: &Session) {
        {
            let mut next = self.next();
            next.is_overtaken |= !later.has_runs(&next.runs);
        }
        let is_other = |session: Option<&Session>| {
            session.is_some_and(|session| !later.has_runs(&session.runs()))
        };
        if self.peek(is_other) {
            self.give_up(&"another server has taken its place");
        }
    }

    /// Takes the announced session into service. Returns whether it did: another lane may have met
    /// a later server since.
    #[must_use]
    pub(crate) fn install(&self, session: Session) -> bool {
        self.tell_lost(); // P10 loss-told-before-successor: before any caller reads through it
        {
            let next = self.next();
            if next.is_overtaken {
                return false;
            }
            self.session.store(Some(Arc::new(session)));
        }
        // P31 kept-only-while-away: a caller may have taken its stamp and been refused in between
        self.tell_lost();
        self.replaced.notify_waiters();
        true
    }

    /// Says that what was read through this lane is out of date.
    pub(crate) fn tell_lost(&self) {
        self.listeners.tell(Push::Lane(self.lane));
    }

    /// Runs commands for this key, on the connection to the server that has it.
    pub(crate) async fn ask<T>(
        &self,
        key: &str,
        ask: impl AsyncFnOnce(Target) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let session = self.get()?;
        self.ask_on(&session, self.link(&session, key)?, key, ask)
            .await
    }

    /// The connection to the server that has this key.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`] while that server is left out.
    pub(crate) fn link<'s>(&self, session: &'s Session, key: &str) -> Result<&'s Link, StoreError> {
        session.link(key).ok_or_else(|| self.unreachable())
    }

    /// Whether there is no connection to the server that has this key.
    pub(crate) fn is_down_for(&self, key: &str) -> bool {
        let session = self.session.load();
        session
            .as_ref()
            .is_none_or(|session| session.link(key).is_none())
    }

    /// Runs commands on one server.
    pub(crate) async fn ask_on<T>(
        &self,
        session: &Arc<Session>,
        link: &Link,
        key: &str,
        ask: impl AsyncFnOnce(Target) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        let asked = self.try_on(session, link, ask).await;
        asked.map_err(|error| self.describe(error, &link.endpoint.shown, key))
    }

    /// Like [`ask_on`](Self::ask_on), with the error as the server or connection put it.
    pub(crate) async fn try_on<T>(
        &self,
        session: &Arc<Session>,
        link: &Link,
        ask: impl AsyncFnOnce(Target) -> RedisResult<T>,
    ) -> RedisResult<T> {
        link.note_used();
        let asked = ask(link.target.clone()).await;
        if let Err(error) = &asked {
            self.on_error(session, link, error);
        }
        asked
    }

    /// Runs commands on one server, over a connection that is not the lane's.
    pub(crate) async fn ask_out_of_band<T>(
        &self,
        link: &Link,
        key: &str,
        ask: impl AsyncFnOnce(Target) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        link.large_values
            .ask(&link.target.scope, ask)
            .await
            .map_err(|error| {
                // It says nothing about the lane, which finds out by itself.
                self.describe(error, &link.endpoint.shown, key)
            })
    }

    /// Publishes a message, in a cluster at any of its masters: each one passes it on to all
    /// others.
    pub(crate) async fn publish(
        &self,
        publisher: &Publisher,
        message: &str,
    ) -> Result<(), StoreError> {
        let session = self.get()?;
        let links = session.links();
        let link = &links[fastrand::usize(..links.len())];
        let publish = cmd("PUBLISH").arg(publisher.channel()).arg(message).clone();
        let ask = async |mut on: Target| publish.exec_async(&mut on.connection).await;
        self.ask_on(&session, link, "", ask).await
    }

    /// Gives up the session, or the server, if an error says that it is not to be relied on.
    pub(crate) fn on_error(&self, session: &Arc<Session>, link: &Link, error: &RedisError) {
        let is_outage = is_outage(error);
        // What fails late on a session that was replaced says nothing about the server as it is
        // now.
        if is_outage && self.is_in_service(session) {
            // Of a cluster, the other masters go on.
            link.breaker
                .as_ref()
                .unwrap_or(&self.breaker)
                .trip(&words(error));
        }
        if is_outage || is_loss(error) {
            self.drop_session(session, &link.endpoint.shown, &words(error));
        }
    }

    /// Gives up a session, unless a newer one has taken its place.
    ///
    /// P10 loss-told-before-successor: first no caller can get it any more, then what was read
    /// through it is out of date. In the other order a reader could take its stamp, and then read
    /// through a connection whose pushes nobody hears.
    pub(crate) fn drop_session(
        &self,
        session: &Arc<Session>,
        address: &str,
        reason: &dyn fmt::Display,
    ) {
        let current = self.session.compare_and_swap(session, None);
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, session))
        {
            self.tell_lost();
            self.listeners.stats.lanes_lost.add(1);
            warn!(event = "session_lost", %address, lane = self.lane.0, %reason, "lost a connection to Redis");
            self.suspected.notify_one();
        }
    }

    /// Gives up the session, if there is one.
    pub(crate) fn give_up(&self, reason: &dyn fmt::Display) {
        if let Some(session) = self.load() {
            self.drop_session(&session, &self.shown, reason);
        }
    }

    /// Has the session replaced by one with the slot map of now, and waits for that.
    pub(crate) async fn reconnect(&self, session: &Arc<Session>) {
        let replaced = self.replaced.notified(); // before the loss that it is the end of
        self.drop_session(session, &self.shown, &"slots have moved to another master");
        let _ = tokio::time::timeout(self.connect_timeout, replaced).await; // if there is none, the next call says so
    }

    /// Waits until a session is in service.
    pub(crate) async fn connected(&self) {
        loop {
            let replaced = self.replaced.notified(); // before the look, so that it misses none
            if !self.is_down() {
                return;
            }
            replaced.await;
        }
    }

    /// Has the session looked at by the task that reconnects.
    pub(crate) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Waits until the session is to be looked at.
    pub(crate) async fn suspected(&self) {
        self.suspected.notified().await;
    }

    /// The keys of a read that the server is to track, for a caller that relies on this.
    // P33 only-kept-is-tracked: while most keys have a value, the form that costs the server less.
    pub(crate) fn tracks(&self, session: &Session, track: Track) -> Tracks {
        match track {
            Track::Nothing => Tracks::None,
            Track::Value if session.tracks && self.absences.are_many() => Tracks::Found,
            Track::Value => Tracks::All,
        }
    }

    // Relaxed, both: the flag is a hint which way is faster, and either way is right.
    pub(crate) fn has_large_values(&self) -> bool {
        self.has_large_values.load(Ordering::Relaxed)
    }

    pub(crate) fn note_large_value(&self) {
        if !self.has_large_values() {
            self.has_large_values.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn describe(&self, error: RedisError, address: &str, key: &str) -> StoreError {
        describe(error, address, self.command_timeout, key)
    }

    pub(crate) fn unreachable(&self) -> StoreError {
        StoreError::Unreachable {
            address: self.shown.clone(),
            source: None,
        }
    }

    pub(crate) fn refused(&self, reason: &str) -> StoreError {
        StoreError::Refused {
            address: self.shown.clone(),
            reason: reason.to_owned(),
        }
    }
}
