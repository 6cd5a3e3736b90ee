use std::sync::{PoisonError, RwLock, Weak};

use deadpool_redis::redis::{PushInfo, PushKind, Value};
use larder_core::{Push, PushListener, RemoteEvent};

use crate::{keys::Name, tally::Tally};

/// Those who are told of pushes, and how many there were.
#[derive(Default)]
pub(crate) struct Listeners {
    told: RwLock<Vec<Weak<dyn PushListener>>>,
    pub(crate) tally: Tally,
}

impl Listeners {
    pub(crate) fn add(&self, listener: Weak<dyn PushListener>) {
        let mut told = self.told.write().unwrap_or_else(PoisonError::into_inner);
        told.retain(|present| present.strong_count() > 0);
        told.push(listener);
    }

    pub(crate) fn tell(&self, push: Push<'_>) {
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter_map(Weak::upgrade).for_each(|listener| listener.on_push(push));
    }

    pub(crate) fn tell_event(&self, event: RemoteEvent) {
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner);
        told.iter().filter_map(Weak::upgrade).for_each(|listener| listener.on_event(event));
    }

    /// Tells of a name that was changed, as these lanes have read it.
    pub(crate) fn tell_name(&self, lanes: impl IntoIterator<Item = u16>, name: &str) {
        self.tally.pushes.add();
        match Name::of(name) {
            Name::Value(key) => self.tell(Push::Value(key)),
            Name::Lease(key) => self.tell(Push::Lease(&key)),
            Name::Tag(tag) => lanes.into_iter().for_each(|lane| self.tell(Push::Tag(lane, tag))),
            Name::Order => lanes.into_iter().for_each(|lane| self.tell(Push::TagEpoch(lane))),
        }
    }
}

/// What a connection says by itself.
pub(crate) enum Said<'a> {
    /// It has ended.
    Ended,
    /// These names have changed.
    Changed(&'a [Value]),
    /// The server was emptied.
    Emptied,
    /// Nothing that matters here.
    Other,
}

impl<'a> Said<'a> {
    pub(crate) fn by(push: &'a PushInfo) -> Self {
        match (&push.kind, push.data.first()) {
            (PushKind::Disconnection, _) => Self::Ended,
            (PushKind::Invalidate, Some(Value::Array(names))) => Self::Changed(names),
            // Without names.
            (PushKind::Invalidate, _) => Self::Emptied,
            _ => Self::Other,
        }
    }
}

/// A name as text; one that is not UTF-8 was not written or read by a larder.
pub(crate) fn text(name: &Value) -> Option<&str> {
    let Value::BulkString(name) = name else { return None };
    std::str::from_utf8(name).ok()
}
