//! Faults of the connections and of the server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use larder_chaos::{Key, PolicyName};
use larder_core::MemoryServer;

use crate::{
    bus::Subscription,
    kinds::Kind,
    lane::Lane,
    names::{full, keys, namespace},
    node::Node,
    setup::Setup,
    store::Channel,
    time::{note, wait},
};

/// All that can be hit.
pub(crate) struct Faults {
    pub(crate) setup: Arc<Setup>,
    pub(crate) server: MemoryServer,
    /// The lanes of all processes, each with a mark that a fault hits it just now.
    lanes: Vec<(Arc<Lane>, AtomicBool)>,
    subscriptions: Vec<(Arc<Subscription>, AtomicBool)>,
    nodes: Vec<Arc<Node>>,
}

impl Faults {
    pub(crate) fn new(setup: Arc<Setup>, server: MemoryServer, nodes: Vec<Arc<Node>>) -> Self {
        let lanes = nodes.iter().flat_map(|node| node.store.all()).cloned();
        let lanes = lanes.map(|lane| (lane, AtomicBool::new(false))).collect();
        let subscribed = nodes
            .iter()
            .filter_map(|node| node.store.subscription.clone());
        let subscriptions = subscribed
            .map(|subscription| (subscription, AtomicBool::new(false)))
            .collect();
        Self {
            setup,
            server,
            lanes,
            subscriptions,
            nodes,
        }
    }

    /// Hits one thing after the other. Two such tasks run at a time.
    pub(crate) async fn strike(self: Arc<Self>, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            wait(1..=self.setup.calm).await;
            let Some(kind) = fastrand::choice(&self.setup.faults) else {
                return;
            };
            match kind {
                Kind::Death => {} // has a task of its own
                Kind::Deafness if self.setup.shape.channel == Channel::Bus => {
                    self.hit_a_subscription().await;
                }
                Kind::Cut | Kind::Stall | Kind::Deafness => self.hit_a_lane(*kind).await,
                _ => self.hit_the_server(*kind),
            }
        }
    }

    async fn hit_a_lane(&self, kind: Kind) {
        let Some((lane, is_hit)) = fastrand::choice(&self.lanes) else {
            return;
        };
        if is_hit.swap(true, Ordering::Relaxed) {
            return;
        }
        match kind {
            Kind::Stall => {
                lane.stall(true);
                wait(1..=60).await;
                lane.stall(false);
            }
            Kind::Deafness => {
                lane.deafen();
                wait(1..=60).await;
            }
            _ => {}
        }
        if kind != Kind::Stall || fastrand::bool() {
            lane.lose().await;
            if fastrand::bool() {
                wait(1..=80).await;
            }
            lane.reconnect().await;
            self.nodes.iter().for_each(|node| node.tell());
        }
        is_hit.store(false, Ordering::Relaxed);
    }

    async fn hit_a_subscription(&self) {
        let Some((subscription, is_hit)) = fastrand::choice(&self.subscriptions) else {
            return;
        };
        if is_hit.swap(true, Ordering::Relaxed) {
            return;
        }
        subscription.lose().await;
        wait(1..=60).await;
        subscription.restore().await;
        is_hit.store(false, Ordering::Relaxed);
    }

    fn hit_the_server(&self, kind: Kind) {
        let policies = &self.setup.policies;
        // What a foreign program has written, and the server evicts again, no load notices.
        let own = policies
            .iter()
            .filter(|policy| !matches!(policy, PolicyName::Foreign | PolicyName::Guest));
        let own: Vec<Key> = own.flat_map(|policy| keys(*policy)).collect();
        let Some(key) = fastrand::choice(own) else {
            return;
        };
        note(|| format!("server: {kind:?} of {key}"));
        let name = full(namespace(), key);
        match kind {
            Kind::Value => self.server.delete(&name),
            Kind::Lease => self.server.evict_lease(&name),
            Kind::Tag => {
                // As larder has them in a remote store.
                let tag = key.tag().map(|tag| format!("tag:{tag}"));
                let of_policy = format!("policy:{}/{}", namespace(), key.policy().name());
                self.server.evict_tag(&tag.unwrap_or(of_policy));
            }
            Kind::Flush => self.server.flush(),
            Kind::Cut | Kind::Stall | Kind::Deafness | Kind::Death => {}
        }
    }
}
