use std::{io, sync::Arc, time::Duration};

use deadpool_redis::{
    Connection, Manager, Pool, PoolError, Runtime,
    redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisError, RedisResult},
};
use larder_core::StoreError;

use crate::{
    RedisConfig,
    endpoint::Endpoint,
    wire::{Voice, Wire},
};

/// Values of this size or more are carried beside the lane. Replies on one connection come in order, so whatever is asked
/// after a large value would wait until that has arrived.
pub(crate) const LARGE: usize = 64 * 1024;

/// How many large values travel at once, for each lane and server.
const CONNECTIONS: usize = 4;

/// Connections beside a lane's own, each for one large value at a time. They are opened when they are needed, and they track
/// nothing: what is read over one of them is tracked because the lane has read a part of it before.
#[derive(Clone)]
pub(crate) struct Bulk {
    pool: Pool,
    limit: Duration,
}

/// A connection that is not given back if its use is cut off: the rest of a large value may still be on its way to it.
struct CheckedOut(Option<Connection>);

impl Bulk {
    pub(crate) fn new(config: &RedisConfig, endpoint: &Endpoint) -> Result<Self, StoreError> {
        let wrong = |problem: String| StoreError::Address { address: endpoint.shown.clone(), problem };
        let settings = endpoint.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let info = endpoint.info.clone().set_redis_settings(settings);
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let manager =
            Manager::new_with_config(info, options).map_err(|error| wrong(error.category().to_owned()))?;
        let pool = Pool::builder(manager).max_size(CONNECTIONS).runtime(Runtime::Tokio1).build();
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
