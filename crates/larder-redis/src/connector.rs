use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::{
    Connection, Hook, HookError, Manager, Pool, PoolError, Runtime,
    redis::{self, AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisError, aio::SendError},
};
use larder_core::StoreError;
use tracing::warn;

use crate::{
    RedisConfig,
    endpoint::Endpoint,
    error::{describe, is_busy, is_loss, is_outage, is_without_resp3},
    lane::Lane,
};

/// Opens the connections of one lane, one at a time.
pub(crate) struct Connector {
    resp3: Pool,
    /// For servers and proxies that do not speak RESP3, and so cannot push.
    resp2: Pool,
    old_server: AtomicBool,
    /// Whether the newest connection tracks: the pool's hook finds out.
    tracks: Arc<AtomicBool>,
    warned: AtomicBool,
    shown: String,
    connect_timeout: Duration,
}

/// How many requests may wait for one connection's writer; more only makes callers wait in another place.
const BUFFER: usize = 1024;

impl Connector {
    pub(crate) fn new(
        config: &RedisConfig,
        endpoint: &Endpoint,
        lane: &Weak<Lane>,
    ) -> Result<Self, StoreError> {
        let tracks = Arc::new(AtomicBool::new(false));
        let pool = |protocol| -> Result<Pool, StoreError> {
            let wrong = |problem: String| StoreError::Address { address: endpoint.shown.clone(), problem };
            let settings = endpoint.info.redis_settings().clone().set_protocol(protocol);
            let info = endpoint.info.clone().set_redis_settings(settings);
            let options = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(config.connect_timeout))
                .set_response_timeout(Some(config.command_timeout))
                .set_pipeline_buffer_size(BUFFER);
            let options = match protocol {
                ProtocolVersion::RESP2 => options,
                _ => {
                    let lane = lane.clone();
                    options.set_push_sender(move |push| {
                        let lane = lane.upgrade().ok_or(SendError)?;
                        lane.pushed(&push);
                        Ok::<_, SendError>(())
                    })
                }
            };
            let manager = Manager::new_with_config(info, options)
                .map_err(|error| wrong(error.category().to_owned()))?;
            let tracks = tracks.clone();
            Pool::builder(manager)
                .max_size(1)
                .runtime(Runtime::Tokio1)
                // P12 tracking-never-assumed: switched on before the connection is handed to anybody.
                .post_create(Hook::async_fn(move |connection, _| {
                    let tracks = tracks.clone();
                    Box::pin(async move {
                        let mut tracking = redis::cmd("CLIENT");
                        // Not NOLOOP: the server would not tell it what it evicts to make room for its commands.
                        tracking.arg("TRACKING").arg("ON");
                        match tracking.exec_async(connection).await {
                            // P12 tracking-never-assumed: what is refused for now would be taken for a server without pushes, whose other
                            // clients tell of their writes.
                            Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => {
                                return Err(HookError::Backend(error));
                            }
                            // A server that refuses is a server without pushes, and no worse.
                            done => tracks.store(done.is_ok(), Ordering::Release),
                        }
                        Ok(())
                    })
                }))
                .build()
                .map_err(|error| wrong(error.to_string()))
        };
        Ok(Self {
            resp3: pool(ProtocolVersion::RESP3)?,
            resp2: pool(ProtocolVersion::RESP2)?,
            old_server: AtomicBool::new(false),
            tracks,
            warned: AtomicBool::new(false),
            shown: endpoint.shown.clone(),
            connect_timeout: config.connect_timeout,
        })
    }

    /// Opens a connection, and tells whether it tracks. The one before must have been taken from its pool.
    pub(crate) async fn connect(&self) -> Result<(Connection, bool), StoreError> {
        let connection = match self.open().await {
            Err(error) if is_without_resp3(&error) => {
                self.old_server.store(true, Ordering::Release);
                self.open().await
            }
            opened => opened,
        };
        let connection =
            connection.map_err(|error| describe(error, &self.shown, self.connect_timeout, ""))?;
        let tracks = self.tracks.load(Ordering::Acquire) && !self.old_server.load(Ordering::Acquire);
        if !tracks && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(address = %self.shown,
                "the server refuses CLIENT TRACKING: processes tell each other what they change, \
                 and what other programs write is noticed only when an entry's time in L1 ends");
        }
        Ok((connection, tracks))
    }

    async fn open(&self) -> Result<Connection, RedisError> {
        let pool = if self.old_server.load(Ordering::Acquire) { &self.resp2 } else { &self.resp3 };
        // The limit covers what the client's own time-outs do not: a server that accepts and then says nothing.
        match tokio::time::timeout(self.connect_timeout.saturating_mul(2), pool.get()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)))) => {
                Err(error)
            }
            Ok(Err(error)) => {
                Err(RedisError::from((ErrorKind::Client, "the pool failed", error.to_string())))
            }
            Err(_elapsed) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}
