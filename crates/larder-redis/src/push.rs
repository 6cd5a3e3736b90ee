use std::sync::{PoisonError, RwLock, Weak};

use deadpool_redis::redis::{PushInfo, PushKind, Value};
use larder_core::{Push, PushListener};

use crate::keys::key_of;

/// Those who are told of pushes.
#[derive(Default)]
pub(crate) struct Listeners(RwLock<Vec<Weak<dyn PushListener>>>);

impl Listeners {
    pub(crate) fn add(&self, listener: Weak<dyn PushListener>) {
        let mut listeners = self.0.write().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|present| present.strong_count() > 0);
        listeners.push(listener);
    }

    pub(crate) fn tell(&self, push: Push<'_>) {
        let listeners = self.0.read().unwrap_or_else(PoisonError::into_inner);
        listeners.iter().filter_map(Weak::upgrade).for_each(|listener| listener.on_push(push));
    }

    /// Handles what a lane's connection pushes of keys.
    pub(crate) fn handle(&self, lane: u16, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        match push.data.first() {
            Some(Value::Array(names)) => names.iter().for_each(|name| self.tell_name(name)),
            // Without names: the server was flushed.
            _ => self.tell(Push::Lane(lane)),
        }
    }

    fn tell_name(&self, name: &Value) {
        // A name that is not UTF-8 was not written or read by a larder.
        let Value::BulkString(name) = name else { return };
        let Ok(name) = std::str::from_utf8(name) else { return };
        match key_of(name) {
            Some(key) => self.tell(Push::Lease(&key)),
            None => self.tell(Push::Value(name)),
        }
    }
}
