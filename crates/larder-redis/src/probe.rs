use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection, cmd};

use crate::{RedisConfig, lane::Lane};

/// Tries from time to time whether each lane is told of changes, for as long as the store lives.
///
/// P27: the lane reads a key of its own, another connection writes it, and the push must have come before the answer to
/// the lane's next ping.
pub(crate) async fn run(lanes: Vec<Arc<Lane>>, client: Client, config: RedisConfig) {
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout))
        .set_response_timeout(Some(config.command_timeout));
    let mut writer: Option<MultiplexedConnection> = None;
    loop {
        // A lane that is deaf is looked after more often.
        let deaf = lanes.iter().any(|lane| lane.is_deaf());
        let pause =
            if deaf { config.ping_interval.min(config.probe_interval) } else { config.probe_interval };
        tokio::time::sleep(pause).await;
        for lane in lanes.iter().filter(|lane| lane.tracks()) {
            if writer.is_none() {
                writer = client.get_multiplexed_async_connection_with_config(&options).await.ok();
            }
            // Without a writer there is no proof either way; the lanes themselves are pinged.
            let Some(connection) = &writer else { break };
            let write = async |name: &str| write(connection.clone(), name, config.probe_interval).await;
            if !lane.probe(write).await {
                writer = None;
            }
        }
    }
}

async fn write(mut connection: MultiplexedConnection, name: &str, interval: Duration) -> RedisResult<()> {
    let life =
        u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).saturating_mul(10).clamp(1_000, 3_600_000);
    cmd("SET").arg(name).arg(fastrand::u64(..)).arg("PX").arg(life).exec_async(&mut connection).await
}
