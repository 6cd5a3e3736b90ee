use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::Token;
use tokio::time::Instant;

use crate::{
    bulk::Bulk,
    endpoint::Endpoint,
    keys::{in_slot, slot},
    nodes::Opened,
    reads::Reads,
    topology::Topology,
    wire::{Voice, Wire},
};

/// The connections of a lane while they are in service: to the only server, or one to each master of a cluster.
///
/// A key has one slot, a slot one master: so all that is said of a key comes over one connection, in order.
pub(crate) struct Live {
    nodes: Vec<Node>,
    pub(crate) topology: Topology,
    pub(crate) tracks: bool,
}

/// One connection of a lane.
pub(crate) struct Node {
    pub(crate) wire: Wire,
    /// What reads single keys over it.
    pub(crate) reads: Arc<Reads>,
    /// For large values to the same server.
    pub(crate) bulk: Bulk,
    pub(crate) endpoint: Arc<Endpoint>,
    /// Whether anything was asked since the keeper last looked.
    pub(crate) used: AtomicBool,
    pub(crate) probe: Probe,
}

/// The proof that pushes arrive.
pub(crate) struct Probe {
    /// The key that the lane reads, and another connection writes.
    pub(crate) name: String,
    sent: std::sync::Mutex<Option<Instant>>,
    heard: AtomicU64,
}

impl Live {
    /// `voice` is how scripts tell of what they change, should a server not push.
    pub(crate) fn new(opened: &Opened, voice: Voice) -> Self {
        let tracks = opened.channels.iter().all(|channel| channel.tracks);
        // P26 scripts-publish: who is not told by the server is told by others, and tells them.
        let voice = Arc::new(if tracks { Voice::silent() } else { voice });
        let node = |(number, channel): (usize, &crate::nodes::Channel)| Node {
            wire: Wire { connection: channel.connection.clone(), voice: voice.clone() },
            reads: Reads::new(channel.connection.clone()),
            bulk: channel.bulk.clone(),
            endpoint: channel.endpoint.clone(),
            used: AtomicBool::new(false),
            probe: Probe::of(&opened.topology, number),
        };
        let nodes = opened.channels.iter().enumerate().map(node).collect();
        Self { nodes, topology: opened.topology.clone(), tracks }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The connection to the server that has this key.
    pub(crate) fn node(&self, key: &str) -> &Node {
        match self.nodes.as_slice() {
            [only] => only,
            nodes => &nodes[self.topology.master(slot(key))],
        }
    }

    /// What a script on this key is sent through.
    pub(crate) fn wire(&self, key: &str) -> Wire {
        self.node(key).wire.clone()
    }

    /// The probe with this name.
    pub(crate) fn probe(&self, name: &str) -> Option<&Probe> {
        self.nodes.iter().map(|node| &node.probe).find(|probe| probe.name == name)
    }
}

impl Node {
    /// Takes note that something is asked. Written only if that is news, because all threads share it.
    pub(crate) fn note_used(&self) {
        // Relaxed: a hint for the keeper.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl Probe {
    /// What begins every name.
    pub(crate) const NAMES: &str = "larder:probe:";

    /// The probe of a server: in one of its slots, so that it can be read and written there.
    fn of(topology: &Topology, server: usize) -> Self {
        let token = Token::new();
        let name = match topology.slots(server).next() {
            Some((first, _)) if !topology.masters().is_empty() => {
                format!("{}{{{}}}:{}", Self::NAMES, in_slot(first), token.as_str())
            }
            _ => format!("{}{}", Self::NAMES, token.as_str()),
        };
        Self { name, sent: std::sync::Mutex::default(), heard: AtomicU64::new(0) }
    }

    /// Notes that it is about to be written.
    pub(crate) fn send(&self) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Notes that its push is here, and returns how long that took.
    pub(crate) fn hear(&self) -> Option<Duration> {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).take().map(|sent| sent.elapsed())
    }

    /// How often it was heard.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Acquire)
    }
}
