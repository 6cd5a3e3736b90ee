use std::{collections::HashMap, sync::Arc, time::Duration};

use deadpool_redis::redis::{AsyncConnectionConfig, RedisResult, aio::MultiplexedConnection, cmd};

use crate::{RedisConfig, endpoint::Endpoint, lane::Lane};

/// Tries from time to time whether each lane is told of changes, for as long as the store lives.
///
/// P27 channel-proves-alive: the lane reads a key of its own, another connection writes it, and the push must have come before the answer to
/// the lane's next ping.
pub(crate) async fn run(lanes: Vec<Arc<Lane>>, config: RedisConfig) {
    let mut writers = Writers::new(&config);
    loop {
        // A lane that is deaf is looked after more often.
        let deaf = lanes.iter().any(|lane| lane.is_deaf());
        let pause =
            if deaf { config.ping_interval.min(config.probe_interval) } else { config.probe_interval };
        tokio::time::sleep(pause).await;
        writers.forget_idle();
        for lane in &lanes {
            lane.probe(&mut writers).await;
        }
    }
}

/// The connections that write what the lanes have read: one to each server.
pub(crate) struct Writers {
    options: AsyncConnectionConfig,
    interval: Duration,
    /// By the place they lead to, with whether they were used since the last look.
    open: HashMap<String, (MultiplexedConnection, bool)>,
}

impl Writers {
    fn new(config: &RedisConfig) -> Self {
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout))
            .set_response_timeout(Some(config.command_timeout));
        Self { options, interval: config.probe_interval, open: HashMap::new() }
    }

    /// Closes the connections to servers that no lane has any more.
    fn forget_idle(&mut self) {
        self.open.retain(|_, (_, used)| std::mem::take(used));
    }

    /// Writes a probe's key.
    pub(crate) async fn write(&mut self, endpoint: &Endpoint, name: &str) -> RedisResult<()> {
        let place = endpoint.place();
        let mut connection = match self.open.remove(&place) {
            Some((connection, _)) => connection,
            None => endpoint.client()?.get_multiplexed_async_connection_with_config(&self.options).await?,
        };
        let life = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        let life = life.saturating_mul(10).clamp(1_000, 3_600_000);
        let mut set = cmd("SET");
        set.arg(name).arg(fastrand::u64(..)).arg("PX").arg(life).exec_async(&mut connection).await?;
        self.open.insert(place, (connection, true)); // one that failed is not kept
        Ok(())
    }
}
