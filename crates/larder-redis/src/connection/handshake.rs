use std::{io, sync::Arc};

use deadpool_redis::redis::{
    AsyncConnectionConfig, Pipeline, ProtocolVersion, PushInfo, RedisResult,
    aio::{MultiplexedConnection, SendError},
    cmd,
};
use tokio::time::Instant;

use crate::{
    command::tracking::exemption,
    config::{RedisConfig, coherence::Coherence},
    connection::endpoint::Endpoint,
    error::{is_busy, is_loss, is_outage},
};

/// Takes what a connection says without being asked. The connection's driver calls it, so it must
/// not block.
pub(crate) type PushSink = Arc<dyn Fn(&PushInfo) + Send + Sync>;

/// Whether the server pushes the invalidation of what a connection reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracking {
    On {
        /// Whether the server lets the connection exempt a command.
        exempts: bool,
    },
    Refused,
    /// The processes tell each other of their changes.
    Unwanted,
}

impl Tracking {
    pub(crate) fn is_on(self) -> bool {
        matches!(self, Self::On { .. })
    }

    /// Whether a command can be exempted from tracking.
    pub(crate) fn exempts(self) -> bool {
        self == Self::On { exempts: true }
    }
}

/// The requests that may wait for one connection's writer: 1024. More only makes callers wait in
/// another place.
const BUFFER: usize = 1024;

/// A lane's connection, as it was opened.
pub(crate) struct Opened {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) tracking: Tracking,
    /// When the connection is to log in anew.
    pub(crate) renew_at: Option<Instant>,
}

/// Opens a lane's connection to a server, with tracking switched on if the server lets us.
///
/// # Errors
/// That of the connection, or of a server that cannot say now whether it tracks.
pub(crate) async fn handshake(
    endpoint: &Endpoint,
    protocol: ProtocolVersion,
    config: &RedisConfig,
    sink: &PushSink,
) -> RedisResult<Opened> {
    let opened = async {
        let options = options(protocol, config, sink);
        let (mut connection, renew_at) = match endpoint.connect(protocol, &options).await {
            Ok(connected) => connected,
            Err(error) => return Err(endpoint.explain(error).await),
        };
        let tracking = match protocol {
            _ if config.coherence == Coherence::Channel => Tracking::Unwanted,
            ProtocolVersion::RESP2 => Tracking::Refused, // it has no pushes
            _ => switch_tracking_on(&mut connection).await?,
        };
        Ok(Opened {
            connection,
            tracking,
            renew_at,
        })
    };
    // The limit covers what the client's own time-outs do not: a server that accepts and then says
    // nothing.
    match tokio::time::timeout(config.connect_timeout.saturating_mul(2), opened).await {
        Ok(opened) => opened,
        Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

fn options(
    protocol: ProtocolVersion,
    config: &RedisConfig,
    sink: &PushSink,
) -> AsyncConnectionConfig {
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.command_timeout))
        .set_pipeline_buffer_size(BUFFER);
    if protocol == ProtocolVersion::RESP2 {
        return options;
    }
    let sink = sink.clone();
    // P17 pushes-before-replies: the driver calls it before it hands out any later reply
    options.set_push_sender(move |push: PushInfo| {
        sink(&push);
        Ok::<_, SendError>(())
    })
}

// P12 tracking-never-assumed: switched on before the connection is handed to anybody.
async fn switch_tracking_on(connection: &mut MultiplexedConnection) -> RedisResult<Tracking> {
    // Not NOLOOP: with it, the server does not tell a connection what it evicts to make room for
    // its commands.
    let tracking = cmd("CLIENT").arg("TRACKING").arg("ON").take();
    // P33 only-kept-is-tracked: with OPTOUT, the server tracks every command that is not exempted.
    let mut opting_out = Pipeline::with_capacity(2);
    opting_out.add_command(tracking.clone().arg("OPTOUT").take());
    opting_out.add_command(exemption());
    match opting_out.exec_async(connection).await {
        Ok(()) => return Ok(Tracking::On { exempts: true }),
        Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => return Err(error),
        Err(_refused) => {}
    }
    match tracking.exec_async(connection).await {
        Ok(()) => Ok(Tracking::On { exempts: false }),
        // P12 tracking-never-assumed: a server that refuses for now would be taken for one without
        // pushes, whose other clients publish their writes.
        Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => Err(error),
        // A server that refuses is a server without pushes, and no worse.
        Err(_refused) => Ok(Tracking::Refused),
    }
}
