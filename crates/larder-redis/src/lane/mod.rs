//! A lane: one part of all keys, the connections that carry what concerns them, and what is asked
//! of it.

pub(crate) mod absences;
pub(crate) mod claim;
pub(crate) mod clear;
pub(crate) mod current;
pub(crate) mod get;
pub(crate) mod get_many;
pub(crate) mod health;
pub(crate) mod invalidate;
mod unsent;
pub(crate) mod unsent_queue;

use std::{
    fmt,
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
};

use deadpool_redis::redis::{PushInfo, RedisResult, cmd};
use larder_core::{LaneIndex, LaneState, RemoteEvent, StoreError};
use tracing::warn;

use crate::{
    breaker::{Breaker, Permit},
    command::names::Names,
    config::RedisConfig,
    connection::{
        bus::Bus,
        dialer::Dialed,
        endpoint::Endpoint,
        server_push::{ServerPush, text},
        session::Session,
    },
    error::{is_denied, words},
    lane::{current::CurrentSession, health::Health, unsent_queue::UnsentQueue},
    listeners::Listeners,
    redo::{
        Redo,
        log::{Kind, Noted},
    },
};

/// One connection to Redis, or one to each master of a cluster, shared by all callers who ask for
/// the lane's keys. When one of them fails, all are replaced.
pub(crate) struct Lane {
    names: Arc<Names>,
    /// The connections, while there are any to rely on.
    pub(crate) current: CurrentSession,
    /// The invalidations that could not be sent.
    pub(crate) unsent: UnsentQueue,
    /// Names that the lane has replaced and invalidated lately.
    pub(crate) redo: Arc<Redo>,
    /// Whether the lane is told of changes.
    pub(crate) health: Health,
    /// All lanes of the store.
    peers: Peers,
}

/// All lanes of a store, once they are made.
pub(crate) type Peers = Arc<OnceLock<Vec<Weak<Lane>>>>;

/// The parts that all lanes of a store share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The address, as errors and logs show it.
    pub(crate) shown: String,
    pub(crate) names: Arc<Names>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) peers: Peers,
    /// Whether a large value has been read or written over any lane.
    pub(crate) has_large_values: Arc<AtomicBool>,
}

impl Lane {
    pub(crate) fn new(index: LaneIndex, config: &RedisConfig, shared: Shared) -> Self {
        let Shared {
            shown,
            names,
            listeners,
            breaker,
            bus,
            peers,
            has_large_values,
        } = shared;
        let redo = Arc::new(Redo::new(config));
        Self {
            names,
            unsent: UnsentQueue::new(config.max_unsent, listeners.clone(), redo.clone()),
            current: CurrentSession::new(
                index,
                shown,
                config,
                listeners,
                breaker,
                has_large_values,
            ),
            redo,
            health: Health::new(bus),
            peers,
        }
    }

    pub(crate) fn index(&self) -> LaneIndex {
        self.current.lane()
    }

    pub(crate) fn state(&self) -> LaneState {
        self.current.peek(|session| self.health.state(session))
    }

    /// Whether the lane is connected to a server that pushes nothing.
    pub(crate) fn needs_bus(&self) -> bool {
        self.current
            .peek(|session| session.is_some_and(|session| !session.tracks))
    }

    /// A server where the bus may listen, if the lane needs it: any one, because each passes on
    /// what is published at others.
    pub(crate) fn bus_endpoint(&self) -> Option<Arc<Endpoint>> {
        let session = self.current.load().filter(|session| !session.tracks)?;
        session
            .links()
            .get(fastrand::usize(..session.links().len()))
            .map(|link| link.endpoint.clone())
    }

    /// Handles what a connection says without being asked.
    // P17 pushes-before-replies: called by the connection's driver, so a push is handled before any
    // later reply is delivered.
    pub(crate) fn on_push(&self, push: &PushInfo) {
        match ServerPush::parse(push) {
            ServerPush::Changed(names) => names
                .iter()
                .filter_map(text)
                .for_each(|name| self.on_change(name)),
            ServerPush::Emptied => self.current.tell_lost(),
            ServerPush::Ended => {
                // The end may be an older connection's, so the task that reconnects finds out which
                // one it was. To tell of a loss too often is always safe.
                self.current.tell_lost();
                self.current.suspect();
            }
            ServerPush::Other => {}
        }
    }

    fn on_change(&self, name: &str) {
        if self.names.is_probe(name) {
            let lag = self
                .current
                .peek(|session| session?.probe(name).map(|probe| probe.note_push()));
            // None of a probe that the lane does not know any more, nor of a mark.
            lag.flatten()
                .into_iter()
                .for_each(|lag| self.current.listeners.stats.note_push_lag(lag));
            return;
        }
        self.current
            .listeners
            .tell_change(&self.names, [self.index()], name);
    }

    /// Takes connections into service, once everything that could not be sent has been done over
    /// them. Returns whether it did: another lane may have met a later server meanwhile.
    ///
    /// # Errors
    /// That of a connection, or that the permit no longer holds. The connections are not in service
    /// then, and nothing is forgotten.
    pub(crate) async fn activate(
        &self,
        dialed: &Dialed,
        permit: &Permit<'_>,
    ) -> Result<bool, StoreError> {
        let session = Session::new(dialed, &self.names, &self.health.bus.publisher);
        let failed = |error| self.current.describe(error, self.current.shown(), "");
        self.remember_what_was_forgotten(&session)
            .await
            .map_err(failed)?;
        let _sending = self.unsent.send_in_rounds(&session).await.map_err(failed)?;
        if permit.is_trial() {
            // After what could not be sent: a server without memory takes that, and others need not
            // wait for it.
            self.try_to_write(&session).await?;
        }
        // Kept to the end, so that an invalidation that comes meanwhile waits, and is then sent
        // like any other: a key that is remembered a second time is not forgotten with the first,
        // and there is an end to what is to be sent.
        let _waiting = self.unsent.send_rest(&session).await.map_err(failed)?;
        self.redo.begin(&session).await;
        if !permit.holds() {
            return Err(self.current.unreachable());
        }
        let is_in_service = self.current.install(session);
        self.health.bus.want();
        Ok(is_in_service)
    }

    /// Remembers, like what could not be sent, what a server of this session has forgotten.
    // P30 forgotten-is-redone: before any caller reads through the session.
    async fn remember_what_was_forgotten(&self, session: &Session) -> RedisResult<()> {
        self.give_up_other_runs(session);
        let Some(forgotten) = self.redo.look_for_loss(session).await? else {
            return Ok(());
        };
        let count = self.unsent.add_forgotten(forgotten).await;
        self.current.listeners.stats.data_losses.add(1);
        warn!(event = "data_loss", lane = self.index().0, address = %self.current.shown(), count,
            "the server may have come back with older data: invalidating again what it may have forgotten");
        self.current
            .listeners
            .tell_event(RemoteEvent::DataLoss { count });
        Ok(())
    }

    /// Gives up the sessions of other lanes that lead to an earlier server, also those that are
    /// about to be in service: what is sent there from now on would not be in the log when it is
    /// read.
    fn give_up_other_runs(&self, session: &Session) {
        self.current.announce(session); // before the others are looked at, as they do
        let peers = self.peers.get().into_iter().flatten();
        let peers = peers.filter_map(Weak::upgrade);
        for peer in peers.filter(|peer| peer.index() != self.index()) {
            peer.current.give_up_other_runs(session);
        }
    }

    /// Marks on each server which segments of the redo log were answered.
    pub(crate) async fn write_marks(&self) {
        let Some(session) = self.current.load() else {
            return;
        };
        let failed = |link: &_, error: &_| self.current.on_error(&session, link, error);
        self.redo.write_marks(&session, failed).await;
    }

    /// Tries whether each server takes writes: without them there are neither leases nor
    /// invalidations.
    async fn try_to_write(&self, session: &Session) -> Result<(), StoreError> {
        for link in session.links() {
            let name = &link.probe.name;
            let mut set = cmd("SET");
            set.arg(name).arg("trial").arg("PX").arg(1000);
            let written: RedisResult<()> =
                set.exec_async(&mut link.target.connection.clone()).await;
            match written {
                // What the user lacks is about the name, and not about the server.
                Err(error) if !is_denied(&error) => {
                    if let Some(breaker) = &link.breaker {
                        breaker.trip(&words(&error)); // the next session leaves it out
                    }
                    return Err(self.current.describe(error, &link.endpoint.shown, name));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Notes a name that is read through every lane, so that each one redoes it.
pub(crate) fn note_in_all<'a>(lanes: &'a [Arc<Lane>], kind: Kind, name: &str) -> Vec<Noted<'a>> {
    let lanes = lanes.iter();
    lanes.map(|lane| lane.redo.note(kind, name)).collect()
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("index", &self.index())
            .field("state", &self.state())
            .field("unsent", &self.unsent.len())
            .finish_non_exhaustive()
    }
}
