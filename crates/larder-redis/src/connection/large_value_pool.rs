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
    command::target::{Scope, Target},
    config::RedisConfig,
    connection::endpoint::Endpoint,
    error::{is_busy, is_loss, is_outage},
};

/// The number of large values that travel at a time, for each lane and server.
const CONNECTIONS: usize = 4;

/// Connections for large values, beside a lane's own and closed with it. Each is opened when it is
/// needed, and carries one value at a time. They track nothing: the lane has read a part of each
/// value before, and tracks it.
#[derive(Clone)]
pub(crate) struct LargeValuePool {
    pool: Pool,
    endpoint: Arc<Endpoint>,
    limit: Duration,
}

/// A connection that is not returned to the pool if its use is cut off: the rest of a large value
/// may still be on its way.
struct CheckedOut(Option<Connection>);

impl LargeValuePool {
    /// Connects to this server, and to no other one that its address may lead to.
    pub(crate) fn new(
        config: &RedisConfig,
        endpoint: &Arc<Endpoint>,
        expected_run_id: Option<String>,
    ) -> Result<Self, StoreError> {
        let wrong = |problem: String| StoreError::Address {
            address: endpoint.shown.clone(),
            problem,
        };
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let manager = Manager::new_with_config(endpoint.info_for(ProtocolVersion::RESP2), options)
            .map_err(|error| wrong(error.category().to_owned()))?;
        // P29 large-out-of-band: another server may have had long ago, or not yet, what the lane's
        // server tracks.
        let is_same_server = Hook::async_fn(move |connection: &mut MultiplexedConnection, _| {
            let expected = expected_run_id.clone();
            Box::pin(async move {
                match run_id(connection).await {
                    Ok(run_id) if run_id == expected => Ok(()),
                    Ok(_) => Err(HookError::message(
                        "the address leads to another server than before",
                    )),
                    Err(error) => Err(HookError::Backend(error)),
                }
            })
        });
        let builder = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1);
        let pool = builder
            .post_create(is_same_server)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            pool,
            endpoint: endpoint.clone(),
            limit: config.command_timeout,
        })
    }

    /// Runs commands over a connection that no other caller uses meanwhile.
    pub(crate) async fn ask<T>(
        &self,
        scope: &Arc<Scope>,
        ask: impl AsyncFnOnce(Target) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let asked = async {
            let connection = match self.pool.get().await {
                Ok(connection) => connection,
                Err(error) => return Err(self.endpoint.explain(cause(error)).await),
            };
            let mut checked_out = CheckedOut(Some(connection));
            let Some(connection) = checked_out.0.as_deref().cloned() else {
                return Err(cause(PoolError::Closed));
            };
            let asked = ask(Target {
                connection,
                scope: scope.clone(),
            })
            .await;
            if asked.is_ok() {
                drop(checked_out.0.take()); // returned to the pool
            }
            asked
        };
        // The limit of any command, here with the wait for a connection: no caller waits longer for
        // a large value.
        match tokio::time::timeout(self.limit, asked).await {
            Ok(asked) => asked,
            Err(_elapsed) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }
}

/// Asks for the identifier of a server's run, by which it can be told from others; `None` if it
/// does not say.
pub(crate) async fn run_id(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    match cmd("INFO")
        .arg("server")
        .query_async::<String>(connection)
        .await
    {
        Ok(info) => Ok(info
            .lines()
            .find_map(|line| line.strip_prefix("run_id:").map(str::to_owned))),
        Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => Err(error),
        Err(_refused) => Ok(None),
    }
}

impl Drop for CheckedOut {
    fn drop(&mut self) {
        self.0.take().map(Connection::take);
    }
}

fn cause(error: PoolError) -> RedisError {
    match error {
        PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => error,
        error => RedisError::from((ErrorKind::Client, "the pool failed", error.to_string())),
    }
}
