use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use deadpool_redis::redis::{PushInfo, PushKind, RedisResult, aio::MultiplexedConnection};
use futures_util::future::join_all;
use larder_core::{Invalidated, LaneState, Push, StoreError, Token};
use tokio::sync::{Mutex, Notify};
use tracing::{error, warn};

use crate::{
    error::{describe, is_loss},
    push::Listeners,
    scripts,
};

/// One connection to Redis, shared by all who ask for the keys of this lane, and replaced when it fails.
pub(crate) struct Lane {
    index: u16,
    shown: String,
    command_timeout: Duration,
    max_pending: usize,
    listeners: Arc<Listeners>,
    /// The connection that commands take; none while there is none to rely on.
    live: ArcSwapOption<Live>,
    /// The keys whose invalidation could not be sent, with the lease that ends with it, if there is one.
    pending: Mutex<HashMap<String, Option<Token>>>,
    /// Whether anything was asked since the keeper last looked.
    used: AtomicBool,
    /// Wakes the keeper: the connection failed, or says that it ended.
    pub(crate) woken: Notify,
}

pub(crate) struct Live {
    connection: MultiplexedConnection,
    tracks: bool,
}

/// How often an invalidation is tried on connections that fail under it, before it is left to the next one.
const TRIES: usize = 3;
/// How many invalidations that could not be sent are then sent at once.
const BATCH: usize = 1024;

impl Lane {
    pub(crate) fn new(
        index: u16,
        shown: String,
        config: &crate::RedisConfig,
        listeners: Arc<Listeners>,
    ) -> Self {
        Self {
            index,
            shown,
            command_timeout: config.command_timeout,
            max_pending: config.max_pending,
            listeners,
            live: ArcSwapOption::empty(),
            pending: Mutex::default(),
            used: AtomicBool::new(false),
            woken: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> LaneState {
        match &*self.live.load() {
            None => LaneState::Down,
            Some(live) if live.tracks => LaneState::Tracking,
            Some(_) => LaneState::Untracked,
        }
    }

    /// Asks something on the lane's connection.
    pub(crate) async fn ask<T>(
        &self,
        key: &str,
        ask: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
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
        ask: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        self.used.store(true, Ordering::Relaxed); // Relaxed: a hint for the keeper
        ask(live.connection.clone()).await.map_err(|error| {
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
            warn!(address = %self.shown, lane = self.index, %reason, "lost a connection to Redis");
            self.woken.notify_one();
        }
    }

    /// Handles what the connection says by itself.
    // P17: called by the connection's driver, so a push is handled before any later reply is delivered.
    pub(crate) fn pushed(&self, push: &PushInfo) {
        if push.kind == PushKind::Disconnection {
            // It may be an older connection's end, so the keeper looks which one it was; to advance is always safe.
            self.listeners.tell(Push::Lane(self.index));
            self.woken.notify_one();
        } else {
            self.listeners.handle(self.index, push);
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
        // To the end, so that what is invalidated meanwhile waits, and is then sent like any other: a key that is
        // remembered a second time is not forgotten with the first, and there is an end to what is to be sent.
        let mut pending = self.pending.lock().await;
        while !pending.is_empty() {
            let batch: Vec<_> =
                pending.iter().take(BATCH).map(|(key, own)| (key.clone(), own.clone())).collect();
            // P11: before anything is read through the lane.
            let sent =
                batch.iter().map(|(key, own)| scripts::invalidate(connection.clone(), key, own.as_ref()));
            let mut failed = None;
            for (sent, (key, _)) in join_all(sent).await.into_iter().zip(&batch) {
                match sent {
                    Err(error) if !is_final(error.code()) => {
                        failed = Some(describe(error, &self.shown, self.command_timeout, key));
                        continue;
                    }
                    Err(error) if error.code() == Some("NOPERM") => {
                        error!(%key, %error, "a key cannot be invalidated, now or later");
                    }
                    // Of another type, there is nothing of ours.
                    Err(_) | Ok(()) => {}
                }
                pending.remove(key);
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        self.listeners.tell(Push::Lane(self.index)); // P10: before anybody reads through it
        self.live.store(Some(Arc::new(Live { connection, tracks })));
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
            if let Some(live) = self.live.load_full() {
                self.lose(&live, &"an invalidation failed on it");
            }
        }
        Ok(Invalidated::Deferred)
    }

    /// Remembers an invalidation while the lane is down; `false` if it is not down.
    async fn remember(&self, key: &str, own: Option<&Token>) -> Result<bool, StoreError> {
        let mut pending = self.pending.lock().await;
        if self.live.load().is_some() {
            return Ok(false);
        }
        if pending.len() >= self.max_pending && !pending.contains_key(key) {
            return Err(StoreError::TooManyPending { address: self.shown.clone(), pending: pending.len() });
        }
        // The first lease stays: while the lane is down, no later one can have been taken.
        let ends = pending.entry(key.to_owned()).or_default();
        *ends = ends.take().or_else(|| own.cloned());
        Ok(true)
    }

    /// P13: pings the connection if nothing was asked since the last look, or if `now` is set; returns whether the
    /// lane is still live.
    pub(crate) async fn check(&self, now: bool) -> bool {
        let Some(live) = self.live.load_full() else { return false };
        if self.used.swap(false, Ordering::Relaxed) && !now {
            return true;
        }
        let ping = deadpool_redis::redis::cmd("PING");
        let pong = self.ask_on(&live, "", async |mut on| ping.exec_async(&mut on).await).await;
        self.used.store(false, Ordering::Relaxed);
        // A server that refuses to answer a ping (it may be loading) is there all the same.
        drop(pong);
        self.live.load().is_some()
    }
}

/// Refusals that a retry would meet again: the key holds something of another type, or is not ours to write.
fn is_final(code: Option<&str>) -> bool {
    matches!(code, Some("WRONGTYPE" | "NOPERM"))
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("index", &self.index)
            .field("state", &self.state())
            .field("pending", &self.pending.try_lock().map(|pending| pending.len()).ok())
            .finish_non_exhaustive()
    }
}
