use std::{sync::Arc, time::Duration};

use larder_core::StoreError;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::{
    breaker::Permit,
    lane::Lane,
    nodes::{Nodes, Opened},
};

/// The pauses before a connection is replaced that was lost when it was young: doubled from the first to the last, and
/// shortened by up to half at random. One that is older is replaced at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);
const YOUNG: Duration = Duration::from_secs(1);

/// Keeps a lane connected, for as long as its store lives and the breaker lets it.
pub(crate) async fn keep(
    lane: Arc<Lane>,
    mut nodes: Nodes,
    ping_interval: Duration,
    mut opened: Option<Opened>,
) {
    let mut pause = Duration::ZERO;
    loop {
        if let Some(opened) = opened.take() {
            let born = Instant::now();
            watch(&lane, ping_interval).await;
            drop(opened); // closed before the next ones are opened
            // A lost connection does not open the breaker, so a server that accepts each and drops it is bounded here.
            pause = match born.elapsed() < YOUNG {
                true => pause.saturating_mul(2).clamp(FIRST_PAUSE, LAST_PAUSE),
                false => Duration::ZERO,
            };
            tokio::time::sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
        }
        let permit = lane.breaker.permit().await;
        match connect(&lane, &mut nodes, &permit).await {
            Ok(connected) => {
                permit.passed();
                info!(?lane, "connected to Redis");
                opened = Some(connected);
            }
            Err(error) => {
                permit.failed(&error);
                debug!(?lane, %error, "cannot connect to Redis yet");
            }
        }
    }
}

/// Opens a lane's connections and takes them into service.
pub(crate) async fn connect(
    lane: &Lane,
    nodes: &mut Nodes,
    permit: &Permit<'_>,
) -> Result<Opened, StoreError> {
    let opened = tokio::select! {
        // Boxed: it is seldom run, and so deep that it would count in the futures of all who build a store.
        opened = Box::pin(nodes.connect()) => opened?,
        // Another lane has found the server gone: an attempt that hangs would only keep this lane from the next one.
        () = permit.revoked() => return Err(lane.unreachable()),
    };
    Box::pin(lane.publish(&opened, permit)).await?;
    Ok(opened)
}

/// Waits until the lane has lost its connection, or the server is given up. P13 silence-is-not-health: a half-open connection does not say so,
/// so an idle one is asked.
async fn watch(lane: &Lane, ping_interval: Duration) {
    let kept = async {
        loop {
            let now = tokio::time::timeout(ping_interval, lane.woken.notified()).await.is_ok();
            if !lane.check(now).await {
                return;
            }
        }
    };
    // Whatever the connection is asked at that moment, it is given up at once when another lane finds the server gone.
    tokio::select! {
        () = kept => {}
        () = lane.breaker.given_up() => lane.give_up(&"the server is given up"),
    }
}
