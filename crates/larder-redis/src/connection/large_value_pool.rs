use std::{io, sync::Arc, time::Duration};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult},
};
use deadpool_redis::redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisError, RedisResult,
    aio::MultiplexedConnection, cmd,
};
use larder_core::StoreError;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    command::target::{Scope, Target},
    config::RedisConfig,
    connection::{endpoint::Endpoint, identity::run_id},
};

/// The number of large values that travel at a time, for each lane and server.
const CONNECTIONS: usize = 4;

/// Connections for large values, beside a lane's own and closed with it. Each is opened when it is
/// needed, and carries one value at a time. They track nothing: the lane has read a part of each
/// value before, and tracks it.
#[derive(Clone)]
pub(crate) struct LargeValuePool {
    pool: Pool<Manager>,
    endpoint: Arc<Endpoint>,
    limit: Duration,
}

/// Opens the connections of a pool.
struct Manager {
    endpoint: Arc<Endpoint>,
    /// The runtime that drives the lane's own connection, whichever runtime a caller is in.
    runtime: Handle,
    options: AsyncConnectionConfig,
    /// The identifier of the run of the lane's server.
    expected_run_id: Option<String>,
}

/// A connection of a pool.
struct Pooled {
    connection: MultiplexedConnection,
    /// When its credentials end.
    renew_at: Option<Instant>,
}

/// A connection that is not returned to the pool if its use is cut off: the rest of a large value
/// may still be on its way.
struct CheckedOut(Option<Object<Manager>>);

impl managed::Manager for Manager {
    type Type = Pooled;
    type Error = RedisError;

    async fn create(&self) -> RedisResult<Pooled> {
        let (endpoint, options) = (self.endpoint.clone(), self.options.clone());
        // In the lane's runtime, so that the caller's may end and leave the connection to others.
        let connecting = self
            .runtime
            .spawn(async move { endpoint.connect(ProtocolVersion::RESP2, &options).await });
        let (mut connection, renew_at) = connecting.await.unwrap_or_else(|_gone| {
            Err(RedisError::from((ErrorKind::Io, "the runtime shuts down")))
        })?;
        // P29 large-out-of-band: another server may have had long ago, or not yet, what the lane's
        // server tracks.
        if run_id(&mut connection).await? != self.expected_run_id {
            let problem = "the address leads to another server than before";
            return Err(RedisError::from((ErrorKind::Client, problem)));
        }
        Ok(Pooled {
            connection,
            renew_at,
        })
    }

    async fn recycle(&self, pooled: &mut Pooled, _: &Metrics) -> RecycleResult<RedisError> {
        if pooled.renew_at.is_some_and(|at| at <= Instant::now()) {
            return Err(RecycleError::message("its credentials end"));
        }
        cmd("PING").exec_async(&mut pooled.connection).await?;
        Ok(())
    }
}

impl LargeValuePool {
    /// Connects to this server, and to no other one that its address may lead to.
    pub(crate) fn new(
        config: &RedisConfig,
        endpoint: &Arc<Endpoint>,
        expected_run_id: Option<String>,
    ) -> Result<Self, StoreError> {
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        let manager = Manager {
            endpoint: endpoint.clone(),
            runtime: Handle::current(),
            options,
            expected_run_id,
        };
        let builder = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1);
        let pool = builder.build().map_err(|error| StoreError::Address {
            address: endpoint.shown.clone(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            pool,
            endpoint: endpoint.clone(),
            limit: config.command_timeout,
        })
    }

    /// Closes the connections that nobody uses and whose credentials end.
    pub(crate) fn close_ended(&self) {
        let now = Instant::now();
        let _ended = self
            .pool
            .retain(|pooled, _| pooled.renew_at.is_none_or(|at| at > now));
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
            let Some(pooled) = checked_out.0.as_deref() else {
                return Err(cause(PoolError::Closed));
            };
            let connection = pooled.connection.clone();
            let asked = ask(Target {
                connection,
                scope: scope.clone(),
                exempts: false, // it tracks nothing
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

impl Drop for CheckedOut {
    fn drop(&mut self) {
        self.0.take().map(Object::take);
    }
}

fn cause(error: PoolError<RedisError>) -> RedisError {
    match error {
        PoolError::Backend(error) => error,
        error => RedisError::from((ErrorKind::Client, "the pool failed", error.to_string())),
    }
}
