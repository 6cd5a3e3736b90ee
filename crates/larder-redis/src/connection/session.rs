use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    command::{
        names::Names,
        publisher::Publisher,
        slots::slot,
        target::{Scope, Target},
    },
    connection::{
        dialer::{Channel, Dialed},
        endpoint::Endpoint,
        handshake::Tracking,
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
    /// Whether anything was asked since the last look.
    is_used: AtomicBool,
    pub(crate) probe: ProbeKey,
    /// The run of the server, if it tells.
    pub(crate) run_id: Option<String>,
}

impl Session {
    /// Puts connections into a session. Its scripts publish what they change if a server does not
    /// push.
    pub(crate) fn new(dialed: &Dialed, names: &Arc<Names>, publisher: &Publisher) -> Self {
        let tracks = dialed
            .channels
            .iter()
            .all(|channel| channel.tracking == Tracking::On);
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
        });
        let link = |(master, channel): (usize, &Channel)| Link {
            target: Target {
                connection: channel.connection.clone(),
                scope: scope.clone(),
            },
            reads: ReadBatcher::new(channel.connection.clone()),
            large_values: channel.large_values.clone(),
            endpoint: channel.endpoint.clone(),
            is_used: AtomicBool::new(false),
            probe: ProbeKey::new(names, &dialed.slot_map, master),
            run_id: channel.run_id.clone(),
        };
        let links = dialed.channels.iter().enumerate().map(link).collect();
        Self {
            links,
            slot_map: dialed.slot_map.clone(),
            tracks,
            scope,
        }
    }

    pub(crate) fn links(&self) -> &[Link] {
        &self.links
    }

    /// The connection to the server that has this key.
    pub(crate) fn link(&self, key: &str) -> &Link {
        match self.links.as_slice() {
            [only] => only,
            links => &links[self.slot_map.master(slot(key))],
        }
    }

    /// The target of a script on this key.
    pub(crate) fn target(&self, key: &str) -> Target {
        self.link(key).target.clone()
    }

    /// The connection to the server that has the tags.
    pub(crate) fn tags_link(&self) -> &Link {
        self.link(self.scope.names.epoch())
    }

    pub(crate) fn names(&self) -> &Names {
        &self.scope.names
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.scope.publisher
    }

    /// Whether each server runs since before, or does not tell.
    pub(crate) fn has_runs_of(&self, later: &Self) -> bool {
        let runs = || later.links.iter().filter_map(|link| link.run_id.as_ref());
        let mut own = self.links.iter().filter_map(|link| link.run_id.as_ref());
        runs().next().is_none() || own.all(|run_id| runs().any(|later| later == run_id))
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

    /// Tells whether anything was asked since the last call.
    pub(crate) fn take_used(&self) -> bool {
        self.is_used.swap(false, Ordering::Relaxed)
    }
}
