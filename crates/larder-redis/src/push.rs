use std::sync::{PoisonError, RwLock, Weak};

use deadpool_redis::redis::{PushInfo, PushKind, Value};
use larder_core::{Push, PushListener};

use crate::keys::key_of;

/// The one who is told of pushes, if anybody is.
#[derive(Default)]
pub(crate) struct Listener(RwLock<Option<Weak<dyn PushListener>>>);

/// What a connection said by itself.
pub(crate) enum Event {
    /// The connection ended.
    Disconnected,
    /// A push that the listener was told of, or that means nothing here.
    Told,
}

impl Listener {
    pub(crate) fn set(&self, listener: Weak<dyn PushListener>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(listener);
    }

    pub(crate) fn tell(&self, push: Push<'_>) {
        let listener = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(listener) = listener.and_then(|listener| listener.upgrade()) {
            listener.on_push(push);
        }
    }

    /// Handles what a lane's connection pushes.
    // P17: called by the connection's driver, so a push is handled before any later reply is delivered.
    pub(crate) fn handle(&self, lane: u16, info: &PushInfo) -> Event {
        match info.kind {
            PushKind::Disconnection => return Event::Disconnected,
            PushKind::Invalidate => match info.data.first() {
                Some(Value::Array(names)) => names.iter().for_each(|name| self.tell_name(name)),
                // Without names: the server was flushed.
                _ => self.tell(Push::Lane(lane)),
            },
            _ => {}
        }
        Event::Told
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
