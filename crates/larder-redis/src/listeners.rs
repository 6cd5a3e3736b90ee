use std::sync::{PoisonError, RwLock, Weak};

use larder_core::{LaneIndex, Push, PushListener, RemoteEvent};

use crate::{
    command::names::{Name, Names},
    stats::ConnectionStats,
};

/// The listeners that a store tells of pushes and events, and the counts of what it told them.
#[derive(Default)]
pub(crate) struct Listeners {
    listeners: RwLock<Vec<Weak<dyn PushListener>>>,
    pub(crate) stats: ConnectionStats,
}

impl Listeners {
    pub(crate) fn add(&self, listener: Weak<dyn PushListener>) {
        let mut listeners = self
            .listeners
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|present| present.strong_count() > 0);
        listeners.push(listener);
    }

    pub(crate) fn tell(&self, push: Push<'_>) {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        listeners
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|listener| listener.on_push(push));
    }

    pub(crate) fn tell_event(&self, event: RemoteEvent) {
        let listeners = self
            .listeners
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        listeners
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|listener| listener.on_event(event));
    }

    /// Tells that the key with this name was changed, as these lanes have read it.
    pub(crate) fn tell_change(
        &self,
        names: &Names,
        lanes: impl IntoIterator<Item = LaneIndex>,
        name: &str,
    ) {
        self.stats.pushes.add(1);
        match names.parse(name) {
            Name::Value(key) => self.tell(Push::Value(key)),
            Name::Lease(key) => self.tell(Push::Lease(&key)),
            Name::Tag(tag) => lanes
                .into_iter()
                .for_each(|lane| self.tell(Push::Tag(lane, tag))),
            Name::TagEpoch => lanes
                .into_iter()
                .for_each(|lane| self.tell(Push::TagEpoch(lane))),
        }
    }
}
