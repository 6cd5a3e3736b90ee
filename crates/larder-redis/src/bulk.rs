use std::{io, sync::Arc, time::Duration};

use deadpool_redis::{
    Connection, Hook, HookError, Manager, Pool, PoolError, Runtime,
    redis::{
        AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisError, RedisResult,
        aio::MultiplexedConnection, cmd,
    },
};
use larder_core::StoreError;

use crate::{
    RedisConfig,
    endpoint::Endpoint,
    error::{is_busy, is_loss, is_outage},
    wire::{Voice, Wire},
};

/// Values of this size or more are carried beside the lane. Replies on one connection come in order, so whatever is asked
/// after or with a large value would wait until that has arrived.
pub(crate) const LARGE: usize = 64 * 1024;

/// How many large values travel at once, for each lane and server.
const CONNECTIONS: usize = 4;

/// Connections beside a lane's own, which end with it, each for one large value at a time. They are opened when they are
/// needed, and they track nothing: what is read over one of them is tracked because the lane has read a part of it before.
#[derive(Clone)]
pub(crate) struct Bulk {
    pool: Pool,
    limit: Duration,
}

/// A connection that is not given back if its use is cut off: the rest of a large value may still be on its way to it.
struct CheckedOut(Option<Connection>);

impl Bulk {
    /// Connections to this server, and to no other that its address may lead to.
    pub(crate) fn new(
        config: &RedisConfig,
        endpoint: &Endpoint,
        server: Option<String>,
    ) -> Result<Self, StoreError> {
        let wrong = |problem: String| StoreError::Address { address: endpoint.shown.clone(), problem };
        let settings = endpoint.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let info = endpoint.info.clone().set_redis_settings(settings);
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let manager =
            Manager::new_with_config(info, options).map_err(|error| wrong(error.category().to_owned()))?;
        // P29 large-out-of-band: what the lane's server tracks, another one may have had long ago, or not yet.
        let is_same = Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
            let server = server.clone();
            Box::pin(async move {
                match self::server(connection).await {
                    Ok(other) if other == server => Ok(()),
                    Ok(_) => Err(HookError::message("the address leads to another server than before")),
                    Err(error) => Err(HookError::Backend(error)),
                }
            })
        });
        let builder = Pool::builder(manager).max_size(CONNECTIONS).runtime(Runtime::Tokio1);
        let pool = builder.post_create(is_same).build();
        Ok(Self { pool: pool.map_err(|error| wrong(error.to_string()))?, limit: config.command_timeout })
    }

    /// Asks something over a connection that nobody else uses meanwhile.
    pub(crate) async fn ask<T>(
        &self,
        voice: &Arc<Voice>,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let asked = async {
            let mut checked_out = CheckedOut(Some(self.pool.get().await.map_err(why)?));
            let Some(connection) = checked_out.0.as_deref().cloned() else {
                return Err(why(PoolError::Closed));
            };
            let asked = ask(Wire { connection, voice: voice.clone() }).await;
            if asked.is_ok() {
                drop(checked_out.0.take()); // given back
            }
            asked
        };
        // The limit is that of any command, here with the wait for a connection: a caller waits no longer for a large value.
        match tokio::time::timeout(self.limit, asked).await {
            Ok(asked) => asked,
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// By what a server can be told from others; `None` if it does not say.
pub(crate) async fn server(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    match cmd("INFO").arg("server").query_async::<String>(connection).await {
        Ok(info) => Ok(info.lines().find_map(|line| line.strip_prefix("run_id:").map(str::to_owned))),
        Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => Err(error),
        Err(_refused) => Ok(None),
    }
}

impl Drop for CheckedOut {
    fn drop(&mut self) {
        self.0.take().map(Connection::take);
    }
}

fn why(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        error => RedisError::from((ErrorKind::Client, "the pool failed", error.to_string())),
    }
}
