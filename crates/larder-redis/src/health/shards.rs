//! Masters of a cluster that are left out of a session, until they are back.

use std::{future::pending, io, sync::Arc, time::Duration};

use deadpool_redis::redis::{AsyncConnectionConfig, ProtocolVersion, RedisResult, Value, cmd};
use futures_util::future::select_all;
use tracing::debug;

use crate::{
    command::target::Target,
    connection::{probe_key::ProbeKey, session::Session, shards::Absent, slot_map::SlotMap},
    lane::current::CurrentSession,
};

/// Waits until the session should be replaced by one with other masters: the breaker of a master in
/// it has opened, one that is left out is back, or the slots have moved.
pub(crate) async fn changed(
    current: &CurrentSession,
    absent: &[Absent],
    limit: Duration,
) -> &'static str {
    let Some(session) = current.load() else {
        return pending().await;
    };
    tokio::select! {
        () = one_opened(&session) => "a master of the cluster is gone",
        () = one_is_back(current, &session, absent, limit) => "the cluster's masters have changed",
    }
}

/// Waits until another lane has found one of the session's masters gone.
async fn one_opened(session: &Session) {
    let breakers = session
        .links()
        .iter()
        .filter_map(|link| link.breaker.as_ref());
    let opened: Vec<_> = breakers.map(|breaker| Box::pin(breaker.opened())).collect();
    if opened.is_empty() {
        return pending().await;
    }
    select_all(opened).await;
}

async fn one_is_back(
    current: &CurrentSession,
    session: &Arc<Session>,
    absent: &[Absent],
    limit: Duration,
) {
    let tried = absent
        .iter()
        .map(|shard| Box::pin(is_back(current, session, shard, limit)));
    let tried: Vec<_> = tried.collect();
    if tried.is_empty() {
        return pending().await;
    }
    select_all(tried).await;
}

/// Tries a master whenever its breaker lets a lane do so, until it is back. Before each try it
/// looks whether another server has its slots by now.
async fn is_back(
    current: &CurrentSession,
    session: &Arc<Session>,
    shard: &Absent,
    limit: Duration,
) {
    loop {
        let permit = shard.breaker.permit().await;
        if !permit.is_trial() {
            return; // another lane has found it back
        }
        if have_slots_moved(current, session).await {
            return;
        }
        let tried = tokio::time::timeout(limit, takes_writes(session, shard, limit)).await;
        match tried.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
            Ok(()) => return permit.passed(),
            Err(error) => {
                debug!(event = "shard_trial_failed", address = %shard.endpoint.shown, %error,
                    "a master of the cluster is not back yet");
                permit.failed(&error);
            }
        }
    }
}

/// Writes a key of the master's own slots to it, and removes the key: a server that came back empty
/// must still look so (P30 forgotten-is-redone).
async fn takes_writes(session: &Session, shard: &Absent, limit: Duration) -> RedisResult<()> {
    let options = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limit))
        .set_response_timeout(Some(limit));
    let protocol = ProtocolVersion::RESP2;
    let (mut connection, _) = shard.endpoint.connect(protocol, &options).await?;
    let probe = ProbeKey::new(session.names(), &session.slot_map, shard.master);
    let mut set = cmd("SET");
    set.arg(&probe.name).arg("trial").arg("PX").arg(1000);
    set.exec_async(&mut connection).await?;
    cmd("DEL")
        .arg(&probe.name)
        .exec_async(&mut connection)
        .await
}

/// Asks a master of the session whether the slots are where they were.
async fn have_slots_moved(current: &CurrentSession, session: &Arc<Session>) -> bool {
    let Some(link) = session.links().first() else {
        return true;
    };
    let ask = async |mut on: Target| {
        cmd("CLUSTER")
            .arg("SLOTS")
            .query_async::<Value>(&mut on.connection)
            .await
    };
    // An error ends the session, or says nothing.
    let Ok(slots) = current.try_on(session, link, ask).await else {
        return false;
    };
    SlotMap::parse(&slots, link.endpoint.host()).is_some_and(|now| now != session.slot_map)
}
