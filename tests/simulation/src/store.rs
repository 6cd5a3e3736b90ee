//! The remote store of a process, over lanes that fail.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use larder_core::{
    Claim, Committed, Digest, Invalidated, Key, LaneIndex, LaneState, Lanes, LeaseStore,
    MemoryRemote, MemoryServer, PushListener, RemoteStats, Replacing, StoreError, Stored, TagEpoch,
    TagStore, Token, Track, ValueStore, WriteClaim,
};

use crate::{
    bus::{Bus, Subscription},
    lane::Lane,
    life::Life,
    listeners::{Listeners, Told},
    question::{Order, at_once, unreachable},
};

/// The remote store of a process. Its lanes lead to a [`MemoryServer`], and fail.
#[derive(Debug)]
pub(crate) struct Faulty {
    lanes: Vec<Arc<Lane>>,
    life: Life,
    listeners: Arc<Listeners>,
    pub(crate) subscription: Option<Arc<Subscription>>,
    state: LaneState,
}

/// The connections of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) lanes: u16,
    pub(crate) channel: Channel,
}

/// The way in which processes hear of each other's changes. It is the same for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The server pushes.
    Pushes,
    /// The server pushes, and each lane has a connection of its own for tags, as in a cluster.
    Scattered,
    /// The scripts publish.
    Bus,
}

impl Faulty {
    /// Connects a process to the server, and to the bus if it needs that.
    pub(crate) fn connect(
        (node, life): (u16, &Life),
        shape: Shape,
        server: &MemoryServer,
        bus: &Arc<Bus>,
    ) -> Self {
        let listeners = Arc::new(Listeners::default());
        let (wires, state) = match shape.channel {
            Channel::Pushes => (1, LaneState::Tracking),
            Channel::Scattered => (2, LaneState::Scattered),
            Channel::Bus => (1, LaneState::Subscribed),
        };
        let subscription = (shape.channel == Channel::Bus)
            .then(|| bus.subscribe((node, shape.lanes), listeners.clone()));
        let connect = |lane| {
            let (listeners, subscription) = (listeners.clone(), subscription.clone());
            let process = (node, lane, life.clone());
            Lane::connect(process, wires, server, listeners, subscription)
        };
        Self {
            lanes: (0..shape.lanes).map(connect).collect(),
            life: life.clone(),
            listeners,
            subscription,
            state,
        }
    }

    /// All of its lanes.
    pub(crate) fn all(&self) -> &[Arc<Lane>] {
        &self.lanes
    }

    /// The lane of a key.
    pub(crate) fn lane_of(&self, key: &str) -> &Arc<Lane> {
        &self.lanes[usize::from(self.lane(key).0)]
    }

    fn lane_at(&self, lane: LaneIndex) -> Result<&Arc<Lane>, StoreError> {
        self.lanes.get(usize::from(lane.0)).ok_or_else(unreachable)
    }

    /// Asks about a key, on its lane. Where the server does not push, the script publishes what it
    /// `changes`.
    async fn ask<R: Send + 'static>(
        &self,
        (what, key): (&str, &str),
        order: Order,
        changes: fn(&R, &str) -> Vec<Told>,
        effect: impl FnOnce(&MemoryRemote, &str) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (name, own) = (format!("{what} {key}"), key.to_owned());
        let subscription = self.subscription.clone();
        let effect = move |remote: &MemoryRemote| {
            let reply = effect(remote, &own);
            if let (Some(subscription), Ok(reply)) = (subscription, &reply) {
                subscription.publish(&changes(reply, &own));
            }
            reply
        };
        self.lane_of(key).ask(0, name, order, effect).await
    }

    /// Asks about tags, on a lane.
    async fn ask_tags<R: Send + 'static>(
        &self,
        (what, lane): (&str, &Arc<Lane>),
        tags: &[&str],
        effect: impl FnOnce(&MemoryRemote, &[&str]) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let own: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let name = format!("{what} {}", tags.join(" "));
        let effect = move |remote: &MemoryRemote| {
            let tags: Vec<&str> = own.iter().map(String::as_str).collect();
            effect(remote, &tags)
        };
        lane.ask(lane.tags(), name, Order::ReplyFirst, effect).await
    }

    /// The answer to a commit: where the server does not push, none comes for the commit itself.
    fn committed(&self) -> fn(Committed) -> Committed {
        match self.state {
            LaneState::Subscribed => |done| match done {
                Committed::Tracked { .. } => Committed::Tracked { told: false },
                other => other,
            },
            _ => |done| done,
        }
    }
}

/// A script that changes nothing, or only for itself.
fn nothing<R>(_: &R, _: &str) -> Vec<Told> {
    Vec::new()
}

/// A script that changes a value and its lease.
fn both<R>(_: &R, key: &str) -> Vec<Told> {
    vec![Told::Value(key.to_owned()), Told::Lease(key.to_owned())]
}

/// A script that changes a lease.
fn lease<R>(_: &R, key: &str) -> Vec<Told> {
    vec![Told::Lease(key.to_owned())]
}

fn committed(done: &Committed, key: &str) -> Vec<Told> {
    match done {
        Committed::Refused => lease(done, key),
        _ => both(done, key),
    }
}

fn begun(claim: &WriteClaim, key: &str) -> Vec<Told> {
    match claim {
        WriteClaim::Leased => both(claim, key),
        WriteClaim::Busy(_) => Vec::new(),
    }
}

fn cleared(_: &u64, prefix: &str) -> Vec<Told> {
    vec![Told::Prefix(prefix.to_owned())]
}

fn tag(tag: &str) -> Vec<Told> {
    vec![Told::TagEpoch, Told::Tag(tag.to_owned())]
}

#[async_trait]
impl Lanes for Faulty {
    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    /// By the number at the key's end, so that a key has its lane in every run.
    fn lane(&self, key: &str) -> LaneIndex {
        let number = key
            .rsplit(':')
            .next()
            .and_then(|end| end.parse::<u16>().ok());
        LaneIndex(number.unwrap_or(0) % self.lanes())
    }

    fn lane_state(&self, lane: LaneIndex) -> LaneState {
        match self.lane_at(lane) {
            Ok(lane) if lane.is_in_service() => match &self.subscription {
                Some(subscription) if !subscription.is_up() => LaneState::Untracked,
                _ => self.state,
            },
            _ => LaneState::Down,
        }
    }

    fn subscribe(&self, listener: Weak<dyn PushListener>) {
        self.listeners.add(listener);
    }

    fn call_timeout(&self) -> Option<Duration> {
        Some(Duration::from_millis(200))
    }

    fn stats(&self) -> RemoteStats {
        RemoteStats {
            unsent: self.lanes.iter().map(|lane| lane.unsent()).sum(),
            ..RemoteStats::default()
        }
    }
}

#[async_trait]
impl ValueStore for Faulty {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let effect = |remote: &MemoryRemote, key: &str| at_once(remote.get(key));
        self.ask(("get", key), Order::ReplyFirst, nothing, effect)
            .await
    }

    async fn get_with_ttl(&self, key: &str, track: Track) -> Result<Option<Stored>, StoreError> {
        let effect =
            move |remote: &MemoryRemote, key: &str| at_once(remote.get_with_ttl(key, track));
        self.ask(("get", key), Order::ReplyFirst, nothing, effect)
            .await
    }

    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        loop {
            self.life.goes_on().await;
            let lane = self.lane_of(key.as_str());
            if !lane.is_in_service() {
                let how = at_once(lane.remote().invalidate(key, own))?;
                lane.invalidated(how, both(&how, key.as_str()));
                return Ok(how);
            }
            let (owned, token) = (key.clone(), own.cloned());
            let effect = move |remote: &MemoryRemote, _: &str| {
                at_once(remote.invalidate(&owned, token.as_ref()))
            };
            // P11 unsent-goes-first: sent again, or remembered
            let name = ("invalidate", key.as_str());
            if let Ok(done) = self.ask(name, Order::ReplyFirst, both, effect).await {
                return Ok(done);
            }
        }
    }

    async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        let effect = |remote: &MemoryRemote, prefix: &str| at_once(remote.clear(prefix));
        let name = ("clear", prefix);
        self.ask(name, Order::ReplyFirst, cleared, effect).await
    }
}

/// A [`Replacing`] that outlives its call.
enum Found {
    Nothing,
    Value(Digest),
    Ended(Digest),
}

impl Found {
    fn new(replacing: Replacing<'_>) -> Self {
        match replacing {
            Replacing::Nothing => Self::Nothing,
            Replacing::Value(seen) => Self::Value(seen.clone()),
            Replacing::Ended(seen) => Self::Ended(seen.clone()),
        }
    }

    fn replacing(&self) -> Replacing<'_> {
        match self {
            Self::Nothing => Replacing::Nothing,
            Self::Value(seen) => Replacing::Value(seen),
            Self::Ended(seen) => Replacing::Ended(seen),
        }
    }
}

#[async_trait]
impl LeaseStore for Faulty {
    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Claim, StoreError> {
        let (token, found) = (token.clone(), Found::new(replacing));
        let effect = move |remote: &MemoryRemote, key: &str| {
            at_once(remote.claim(key, &token, lease, found.replacing(), track))
        };
        let name = ("claim", key);
        self.ask(name, Order::ReplyFirst, nothing, effect).await
    }

    async fn begin_write(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
    ) -> Result<WriteClaim, StoreError> {
        let token = token.clone();
        let effect =
            move |remote: &MemoryRemote, key: &str| at_once(remote.begin_write(key, &token, lease));
        let name = ("begin_write", key);
        self.ask(name, Order::ReplyFirst, begun, effect).await
    }

    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError> {
        let token = token.clone();
        let effect =
            move |remote: &MemoryRemote, key: &str| at_once(remote.renew(key, &token, lease));
        let name = ("renew", key);
        self.ask(name, Order::ReplyFirst, nothing, effect).await
    }

    async fn commit(
        &self,
        key: &str,
        token: &Token,
        value: &[u8],
        ttl: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Committed, StoreError> {
        let (token, found) = (token.clone(), Found::new(replacing));
        let value = Bytes::copy_from_slice(value);
        let effect = move |remote: &MemoryRemote, key: &str| {
            at_once(remote.commit(key, &token, &value, ttl, found.replacing(), track))
        };
        let name = ("commit", key);
        let done = self.ask(name, Order::PushesFirst, committed, effect).await;
        done.map(self.committed())
    }

    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
        track: Track,
    ) -> Result<Committed, StoreError> {
        let (token, kept) = (token.clone(), kept.clone());
        let effect = move |remote: &MemoryRemote, key: &str| {
            at_once(remote.touch(key, &token, &kept, ttl, track))
        };
        let name = ("touch", key);
        let done = self.ask(name, Order::PushesFirst, committed, effect).await;
        done.map(self.committed())
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError> {
        let token = token.clone();
        let effect = move |remote: &MemoryRemote, key: &str| at_once(remote.release(key, &token));
        let name = ("release", key);
        self.ask(name, Order::ReplyFirst, lease, effect).await
    }
}

#[async_trait]
impl TagStore for Faulty {
    async fn tag_epoch(&self, lane: LaneIndex) -> Result<TagEpoch, StoreError> {
        let effect = |remote: &MemoryRemote, _: &[&str]| at_once(remote.tag_epoch(LaneIndex(0)));
        self.ask_tags(("tag_epoch", self.lane_at(lane)?), &[], effect)
            .await
    }

    async fn tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        let effect =
            |remote: &MemoryRemote, tags: &[&str]| at_once(remote.tags(LaneIndex(0), tags));
        self.ask_tags(("tags", self.lane_at(lane)?), tags, effect)
            .await
    }

    async fn pin_tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
        epoch: TagEpoch,
        ttl: Duration,
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        let effect = move |remote: &MemoryRemote, tags: &[&str]| {
            at_once(remote.pin_tags(LaneIndex(0), tags, epoch, ttl))
        };
        self.ask_tags(("pin_tags", self.lane_at(lane)?), tags, effect)
            .await
    }

    async fn invalidate_tag(&self, name: &str) -> Result<Invalidated, StoreError> {
        loop {
            self.life.goes_on().await;
            for lane in self.lanes.iter().filter(|lane| lane.is_in_service()) {
                let subscription = self.subscription.clone();
                let effect = move |remote: &MemoryRemote, names: &[&str]| {
                    let name = names.first().copied().unwrap_or_default();
                    let done = at_once(remote.invalidate_tag(name));
                    if let Some(subscription) = subscription {
                        subscription.publish(&tag(name));
                    }
                    done
                };
                let asked = self
                    .ask_tags(("invalidate_tag", lane), &[name], effect)
                    .await;
                if let Ok(done) = asked {
                    return Ok(done);
                }
            }
            if self.lanes.iter().any(|lane| lane.is_in_service()) {
                continue;
            }
            // P11 unsent-goes-first: entries with the tag are read through every lane
            for lane in &self.lanes {
                let how = at_once(lane.remote().invalidate_tag(name))?;
                lane.invalidated(how, tag(name));
            }
            return Ok(Invalidated::Deferred);
        }
    }
}
