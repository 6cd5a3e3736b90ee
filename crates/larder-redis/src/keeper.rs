use std::{sync::Arc, time::Duration};

use deadpool_redis::Connection;
use larder_core::StoreError;
use tracing::{debug, info};

use crate::{connector::Connector, lane::Lane};

/// The pauses between attempts to connect: doubled from the first to the last, and shortened by up to half at random,
/// so that many processes don't come back in step.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps a lane connected, for as long as its store lives.
pub(crate) async fn keep(
    lane: Arc<Lane>,
    connector: Connector,
    ping_interval: Duration,
    mut connection: Option<Connection>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(connection) = connection.take() {
            watch(&lane, ping_interval).await;
            // Taken from its pool, so that the pool opens a new one and closes this one.
            drop(Connection::take(connection));
            pause = FIRST_PAUSE;
        }
        match connect(&lane, &connector).await {
            Ok(connected) => {
                info!(?lane, "connected to Redis");
                connection = Some(connected);
            }
            Err(error) => {
                debug!(?lane, %error, "cannot connect to Redis yet");
                tokio::time::sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                pause = LAST_PAUSE.min(2 * pause);
            }
        }
    }
}

/// Opens a connection and takes it into service.
pub(crate) async fn connect(lane: &Lane, connector: &Connector) -> Result<Connection, StoreError> {
    let (connection, tracks) = connector.connect().await?;
    match lane.publish((*connection).clone(), tracks).await {
        Ok(()) => Ok(connection),
        Err(error) => {
            drop(Connection::take(connection));
            Err(error)
        }
    }
}

/// Waits until the lane has lost its connection. P13: a half-open connection does not say so, so an idle one is asked.
async fn watch(lane: &Lane, ping_interval: Duration) {
    loop {
        let now = tokio::time::timeout(ping_interval, lane.woken.notified()).await.is_ok();
        if !lane.check(now).await {
            return;
        }
    }
}
