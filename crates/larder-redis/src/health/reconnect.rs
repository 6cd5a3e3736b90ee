use std::{sync::Arc, time::Duration};

use larder_core::StoreError;
use tokio::{sync::Mutex, time::Instant};
use tracing::{debug, info};

use crate::{
    breaker::Permit,
    connection::dialer::{Dialed, Dialer},
    health::{
        ping::{Pinged, ping_session},
        renewal::keep_logged_in,
        shards::changed,
    },
    lane::Lane,
};

/// The pauses before a young connection that was lost is replaced: doubled from the first to the
/// last, and shortened by up to half at random. An older connection is replaced at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_millis(500);
const YOUNG: Duration = Duration::from_secs(1);

/// The times that a connection in service is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A connection that was idle for this time is pinged.
    pub(crate) ping_interval: Duration,
    /// A renewal of the credentials ends after this time.
    pub(crate) renewal: Duration,
    /// A trial of a master that is left out ends after this time.
    pub(crate) trial: Duration,
}

/// Keeps a lane connected, for as long as its store is awake and the circuit breaker lets it.
pub(crate) async fn keep_connected(
    lane: Arc<Lane>,
    dialer: Arc<Mutex<Dialer>>,
    limits: Limits,
    mut dialed: Option<Dialed>,
) {
    let mut dialer = dialer.lock().await;
    let mut pause = Duration::ZERO;
    loop {
        if let Some(dialed) = dialed.take() {
            let born = Instant::now();
            watch(&lane, &dialed, limits).await;
            drop(dialed); // closed before the next connections are opened
            // A lost connection does not open the breaker, so a server that accepts each one and
            // drops it is bounded here.
            pause = match born.elapsed() < YOUNG {
                true => pause.saturating_mul(2).clamp(FIRST_PAUSE, LAST_PAUSE),
                false => Duration::ZERO,
            };
            tokio::time::sleep(pause.mul_f64(1.0 - fastrand::f64() / 2.0)).await;
        }
        let permit = lane.current.breaker.permit().await;
        match connect(&lane, &mut dialer, &permit).await {
            Ok(connected) => {
                permit.passed();
                info!(event = "connected", ?lane, "connected to Redis");
                dialed = Some(connected);
            }
            Err(error) => {
                permit.failed(&error);
                debug!(event = "connect_failed", ?lane, %error, "cannot connect to Redis yet");
            }
        }
    }
}

/// Opens a lane's connections and takes them into service.
pub(crate) async fn connect(
    lane: &Lane,
    dialer: &mut Dialer,
    permit: &Permit<'_>,
) -> Result<Dialed, StoreError> {
    loop {
        let dialed = tokio::select! {
            // Boxed: it is seldom run, and so deep that it would count in the futures of all who
            // build a store.
            dialed = Box::pin(dialer.dial()) => dialed?,
            // Another lane has found the server gone: an attempt that hangs would only keep this
            // lane from the next one.
            () = permit.revoked() => return Err(lane.current.unreachable()),
        };
        if Box::pin(lane.activate(&dialed, permit)).await? {
            return Ok(dialed);
        }
        // Another lane has met a later server, and this lane's address may still lead to the
        // earlier one.
        tokio::time::sleep(FIRST_PAUSE.mul_f64(fastrand::f64())).await;
    }
}

/// Waits until the lane has lost its session, or the breaker opens.
// P13 silence-is-not-health: a half-open connection does not say so, so an idle one is pinged.
async fn watch(lane: &Lane, dialed: &Dialed, limits: Limits) {
    let kept = async {
        while !lane.current.is_down() {
            let is_suspected = tokio::time::timeout(limits.ping_interval, lane.current.suspected())
                .await
                .is_ok();
            ping_session(
                &lane.current,
                if is_suspected {
                    Pinged::All
                } else {
                    Pinged::Idle
                },
            )
            .await;
        }
    };
    // Whatever a connection is asked at that moment, it is given up at once when another lane finds
    // the server gone.
    tokio::select! {
        () = kept => {}
        () = keep_logged_in(&lane.current, limits.renewal) => {}
        reason = changed(&lane.current, &dialed.absent, limits.trial) => lane.current.give_up(&reason),
        () = lane.current.breaker.opened() => lane.current.give_up(&"the circuit breaker is open"),
    }
}
