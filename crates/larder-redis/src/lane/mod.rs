//! A lane: one part of all keys, the connections that carry what concerns them, and what is asked
//! of it.

pub(crate) mod claim;
pub(crate) mod clear;
pub(crate) mod current;
pub(crate) mod get;
pub(crate) mod get_many;
pub(crate) mod health;
pub(crate) mod invalidate;
mod unsent;
pub(crate) mod unsent_queue;

use std::{fmt, sync::Arc};

use deadpool_redis::redis::{PushInfo, RedisResult, cmd};
use larder_core::{LaneIndex, LaneState, StoreError};

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
    error::is_final,
    lane::{current::CurrentSession, health::Health, unsent_queue::UnsentQueue},
    listeners::Listeners,
};

/// One connection to Redis, or one to each master of a cluster, shared by all callers who ask for
/// the lane's keys. When one of them fails, all are replaced.
pub(crate) struct Lane {
    names: Arc<Names>,
    /// The connections, while there are any to rely on.
    pub(crate) current: CurrentSession,
    /// The invalidations that could not be sent.
    pub(crate) unsent: UnsentQueue,
    /// Whether the lane is told of changes.
    pub(crate) health: Health,
}

/// The parts that all lanes of a store share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// The address, as errors and logs show it.
    pub(crate) shown: String,
    pub(crate) names: Arc<Names>,
    pub(crate) listeners: Arc<Listeners>,
    pub(crate) breaker: Arc<Breaker>,
    pub(crate) bus: Arc<Bus>,
}

impl Lane {
    pub(crate) fn new(index: LaneIndex, config: &RedisConfig, shared: Shared) -> Self {
        let Shared {
            shown,
            names,
            listeners,
            breaker,
            bus,
        } = shared;
        Self {
            names,
            unsent: UnsentQueue::new(config.max_unsent, listeners.clone()),
            current: CurrentSession::new(index, shown, config, listeners, breaker),
            health: Health::new(bus),
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
            if let Some(lag) = lag {
                lag.into_iter()
                    .for_each(|lag| self.current.listeners.stats.note_push_lag(lag));
                return;
            }
        }
        self.current
            .listeners
            .tell_change(&self.names, [self.index()], name);
    }

    /// Takes connections into service, once everything that could not be sent has been done over
    /// them.
    ///
    /// # Errors
    /// That of a connection, or that the permit no longer holds. The connections are not in service
    /// then, and nothing is forgotten.
    pub(crate) async fn activate(
        &self,
        dialed: &Dialed,
        permit: &Permit<'_>,
    ) -> Result<(), StoreError> {
        let session = Session::new(dialed, &self.names, &self.health.bus.publisher);
        let failed = |error| self.current.describe(error, self.current.shown(), "");
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
        if !permit.holds() {
            return Err(self.current.unreachable());
        }
        self.current.install(session);
        self.health.bus.want();
        Ok(())
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
                // A final refusal is about the name, and not about the server.
                Err(error) if !is_final(&error) => {
                    return Err(self.current.describe(error, &link.endpoint.shown, name));
                }
                _ => {}
            }
        }
        Ok(())
    }
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
