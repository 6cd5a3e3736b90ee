use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::RedisResult;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};

use crate::{
    connection::session::{Link, Session},
    error::is_loss,
    lane::current::CurrentSession,
};

/// The pause before a renewal that failed is tried again: 1 s.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether the log says that the renewal fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    Yes,
    No,
}

/// Logs in anew over the connections of a session before their credentials end, for as long as it
/// is polled.
///
/// A renewal that fails leaves the connection in use: what it logged in with may hold for longer
/// than was said, and a server that ends the connection makes it a lost one.
pub(crate) async fn keep_logged_in(current: &CurrentSession, limit: Duration) {
    let Some(session) = current.load() else {
        return std::future::pending().await;
    };
    let links = session.links().iter();
    join_all(links.map(|link| renew(current, &session, link, limit))).await;
    std::future::pending().await
}

async fn renew(current: &CurrentSession, session: &Arc<Session>, link: &Link, limit: Duration) {
    let mut reported = Reported::No;
    while let Some(at) = link.renew_at() {
        sleep_until(at).await;
        match timeout(limit, log_in_again(link)).await {
            Ok(Ok(next)) => {
                link.set_renew_at(next);
                link.large_values.close_ended();
                reported = Reported::No;
                debug!(event = "credentials_renewed", address = %link.endpoint.shown,
                    lane = current.lane().0, "logged in anew");
                continue;
            }
            Ok(Err(error)) if is_loss(&error) => current.on_error(session, link, &error),
            Ok(Err(error)) => report(link, &error, &mut reported),
            Err(_elapsed) => report(link, &"no answer in time", &mut reported),
        }
        link.set_renew_at(Some(Instant::now() + PAUSE));
    }
}

async fn log_in_again(link: &Link) -> RedisResult<Option<Instant>> {
    let mut connection = link.target.connection.clone();
    link.endpoint.log_in_again(&mut connection).await
}

/// Warns of a renewal that fails, once until one succeeds.
fn report(link: &Link, reason: &dyn std::fmt::Display, reported: &mut Reported) {
    if *reported == Reported::No {
        warn!(event = "renewal_failed", address = %link.endpoint.shown, %reason,
            "cannot log in to Redis anew: the connection is used until the server ends it");
    }
    *reported = Reported::Yes;
}
