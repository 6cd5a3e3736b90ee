use std::sync::Arc;

use deadpool_redis::redis::{RedisWrite, ToRedisArgs, aio::MultiplexedConnection};

/// What a script is sent through.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) connection: MultiplexedConnection,
    /// Shared, because each command takes a copy of this.
    pub(crate) voice: Arc<Voice>,
}

/// How a script tells of what it changes: over the bus where the server pushes nothing, else not at all.
///
/// As arguments of a script: the channel, empty for none, and the sender.
#[derive(Clone, Debug)]
pub(crate) struct Voice {
    pub(crate) channel: Arc<str>,
    pub(crate) sender: Arc<str>,
}

impl Voice {
    pub(crate) fn silent() -> Self {
        Self { channel: "".into(), sender: "".into() }
    }
}

impl ToRedisArgs for Voice {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        out.write_arg(self.channel.as_bytes());
        out.write_arg(self.sender.as_bytes());
    }

    fn num_of_args(&self) -> usize {
        2
    }
}
