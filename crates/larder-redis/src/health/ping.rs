use std::sync::Arc;

use deadpool_redis::redis::cmd;
use futures_util::future::join_all;
use larder_core::StoreError;

use crate::{
    command::target::Target,
    connection::session::{Link, Session},
    lane::current::CurrentSession,
};

/// The connections to ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pinged {
    /// Those on which nothing was asked since the last look.
    Idle,
    All,
}

/// Pings connections. The session is given up if one of them does not answer.
// P13 silence-is-not-health
pub(crate) async fn ping_session(current: &CurrentSession, which: Pinged) {
    let Some(session) = current.load() else {
        return;
    };
    let pinged = session
        .links()
        .iter()
        .filter(|link| !link.take_used() || which == Pinged::All);
    // At once, so that one that does not answer does not hide another.
    join_all(pinged.map(|link| async {
        // A server that refuses a ping has answered.
        let _refused = ping(current, &session, link).await;
        link.take_used(); // by the ping itself
    }))
    .await;
}

pub(crate) async fn ping(
    current: &CurrentSession,
    session: &Arc<Session>,
    link: &Link,
) -> Result<(), StoreError> {
    let ping = async |mut on: Target| cmd("PING").exec_async(&mut on.connection).await;
    current.ask_on(session, link, "", ping).await
}
