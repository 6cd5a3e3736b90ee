use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;

use crate::{
    breaker::Breaker,
    command::{
        names::Names,
        publisher::Publisher,
        slots::slot,
        target::{Scope, Target},
    },
    connection::{
        dialer::{Channel, Dialed},
        endpoint::Endpoint,
        large_value_pool::LargeValuePool,
        probe_key::ProbeKey,
        read_batch::ReadBatcher,
        slot_map::SlotMap,
    },
};

/// The connections of a lane while they are in service: one to the only server, or one to each
/// master of a cluster.
///
/// A key has one slot, and a slot one master: so all that concerns a key comes over one connection,
/// in order.
pub(crate) struct Session {
    links: Vec<Link>,
    /// For each master of a cluster its link, or none if it is left out.
    by_master: Vec<Option<usize>>,
    pub(crate) slot_map: SlotMap,
    /// Whether every server pushes what it is told to track.
    pub(crate) tracks: bool,
    scope: Arc<Scope>,
}

/// One connection of a session.
pub(crate) struct Link {
    pub(crate) target: Target,
    /// Reads single keys over the connection.
    pub(crate) reads: Arc<ReadBatcher>,
    /// Carries large values from and to the same server.
    pub(crate) large_values: LargeValuePool,
    pub(crate) endpoint: Arc<Endpoint>,
    /// When the connection is to log in anew.
    renew_at: Mutex<Option<Instant>>,
    /// Whether anything was asked since the last look.
    is_used: AtomicBool,
    pub(crate) probe: ProbeKey,
    /// The breaker of this one master of a cluster.
    pub(crate) breaker: Option<Arc<Breaker>>,
    /// The run of the server, if it tells.
    pub(crate) run_id: Option<String>,
    /// The history of data that the server continues, if it tells.
    pub(crate) replication_id: Option<String>,
}

impl Session {
    /// Puts connections into a session. Its scripts publish what they change if a server does not
    /// push.
    pub(crate) fn new(dialed: &Dialed, names: &Arc<Names>, publisher: &Publisher) -> Self {
        let tracks = dialed
            .channels
            .iter()
            .all(|channel| channel.tracking.is_on());
        // P26 scripts-publish: a process that the server does not tell is told by others, and tells
        // them.
        let publisher = if tracks {
            Publisher::silent()
        } else {
            publisher.clone()
        };
        let scope = Arc::new(Scope {
            names: names.clone(),
            publisher,
            oversized_reported: AtomicBool::new(false),
        });
        let link = |channel: &Channel| Link {
            target: Target {
                connection: channel.connection.clone(),
                scope: scope.clone(),
                exempts: channel.tracking.exempts(),
            },
            reads: ReadBatcher::new(channel.connection.clone(), channel.tracking.exempts()),
            large_values: channel.large_values.clone(),
            endpoint: channel.endpoint.clone(),
            renew_at: Mutex::new(channel.renew_at),
            is_used: AtomicBool::new(false),
            probe: ProbeKey::new(names, &dialed.slot_map, channel.master),
            breaker: channel.breaker.clone(),
            run_id: channel.run_id.clone(),
            replication_id: channel.replication_id.clone(),
        };
        let links = dialed.channels.iter().map(link).collect();
        let mut by_master = vec![None; dialed.slot_map.masters().len()];
        for (link, channel) in dialed.channels.iter().enumerate() {
            if let Some(at) = by_master.get_mut(channel.master) {
                *at = Some(link);
            }
        }
        Self {
            links,
            by_master,
            slot_map: dialed.slot_map.clone(),
            tracks,
            scope,
        }
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// The connection to the server that has this key; none if that one is left out.
    pub(crate) fn link(&self, key: &str) -> Option<&Link> {
        match self.by_master.as_slice() {
            [] | [_] => self.links.first(),
            _ => self.link_of(self.slot_map.master(slot(key))),
        }
    }

    /// The connection to a master, by its number in the slot map.
    pub(crate) fn link_of(&self, master: usize) -> Option<&Link> {
        let link = (*self.by_master.get(master)?)?;
        self.links.get(link)
    }

    /// The connections with the numbers of their masters.
    pub(crate) fn links_by_master(&self) -> impl Iterator<Item = (usize, &Link)> {
        let masters = self.by_master.iter().enumerate();
        masters.filter_map(|(master, link)| Some((master, self.links.get((*link)?)?)))
    }

    /// The connection to the server that has the tags.
    pub(crate) fn tags_link(&self) -> Option<&Link> {
        self.link(self.scope.names.epoch())
    }

    /// Whether no master is left out.
    pub(crate) fn is_whole(&self) -> bool {
        self.by_master.iter().all(Option::is_some)
    }

    /// Whether more than one server has the keys.
    pub(crate) fn is_scattered(&self) -> bool {
        self.by_master.len() > 1
    }

    pub(crate) fn names(&self) -> &Names {
        &self.scope.names
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.scope.publisher
    }

    /// The runs of those servers that tell theirs.
    pub(crate) fn runs(&self) -> Vec<String> {
        let runs = self.links.iter().map(|link| link.run_id.clone());
        runs.flatten().collect()
    }

    /// Whether each of these runs is a server's of this session, or none of its servers tells.
    pub(crate) fn has_runs(&self, earlier: &[String]) -> bool {
        let own = self.runs();
        own.is_empty() || earlier.iter().all(|run_id| own.contains(run_id))
    }

    /// The probe's key with this name.
    pub(crate) fn probe(&self, name: &str) -> Option<&ProbeKey> {
        self.links
            .iter()
            .map(|link| &link.probe)
            .find(|probe| probe.name == name)
    }
}

impl Link {
    /// Notes that something is asked. The flag is written only if that is news, because all threads
    /// share it.
    pub(crate) fn note_used(&self) {
        // Relaxed: a hint for the task that pings.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// When the connection is to log in anew, if it ever is.
    pub(crate) fn renew_at(&self) -> Option<Instant> {
        *self.renew_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes when the connection is to log in anew.
    pub(crate) fn set_renew_at(&self, at: Option<Instant>) {
        *self.renew_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Tells whether anything was asked since the last call.
    pub(crate) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }
}
