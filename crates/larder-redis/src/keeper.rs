use std::{sync::Arc, time::Duration};

use larder_core::StoreError;
use tracing::{debug, info};

use crate::{
    lane::Lane,
    nodes::{Nodes, Opened},
};

/// The pauses between attempts to connect: doubled from the first to the last, and shortened by up to half at random,
/// so that many processes don't come back in step.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Keeps a lane connected, for as long as its store lives.
pub(crate) async fn keep(
    lane: Arc<Lane>,
    mut nodes: Nodes,
    ping_interval: Duration,
    mut opened: Option<Opened>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(opened) = opened.take() {
            watch(&lane, ping_interval).await;
            drop(opened); // closed before the next ones are opened
            pause = FIRST_PAUSE;
        }
        match connect(&lane, &mut nodes).await {
            Ok(connected) => {
                info!(?lane, "connected to Redis");
                opened = Some(connected);
            }
            Err(error) => {
                debug!(?lane, %error, "cannot connect to Redis yet");
                tokio::time::sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
                pause = LAST_PAUSE.min(2 * pause);
            }
        }
    }
}

/// Opens a lane's connections and takes them into service.
pub(crate) async fn connect(lane: &Lane, nodes: &mut Nodes) -> Result<Opened, StoreError> {
    let opened = nodes.connect().await?;
    lane.publish(&opened).await?;
    Ok(opened)
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
