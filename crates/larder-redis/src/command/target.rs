use std::sync::{Arc, atomic::AtomicBool};

use deadpool_redis::redis::aio::MultiplexedConnection;

use crate::command::{names::Names, publisher::Publisher};

/// A server's connection, and what every command over it needs.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) connection: MultiplexedConnection,
    /// Shared, because each command takes a copy of this.
    pub(crate) scope: Arc<Scope>,
    /// Whether a command over the connection can be exempted from tracking.
    pub(crate) exempts: bool,
}

/// The names and the publisher that all commands of a session share.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) names: Arc<Names>,
    pub(crate) publisher: Publisher,
    /// Whether the log says already that a value was too large.
    pub(crate) oversized_reported: AtomicBool,
}

impl Target {
    pub(crate) fn names(&self) -> &Names {
        &self.scope.names
    }

    pub(crate) fn publisher(&self) -> &Publisher {
        &self.scope.publisher
    }
}
