//! Clears of a prefix on every master, over a session in service or before it.

use std::sync::Arc;

use deadpool_redis::redis::{Cmd, ErrorKind, RedisResult, cmd};
use futures_util::future::try_join_all;
use larder_core::StoreError;

use crate::{
    command::scan,
    connection::{session::Session, slot_map::own_slots},
    lane::current::{CurrentSession, TRIES},
};

/// Invalidates every key that begins with `prefix`, on every master, and returns how many values
/// there were.
// P25 clear-leaves-nothing: a key that migrates from one master to another may be seen by neither,
// so each slot must have stayed where it was.
pub(crate) async fn clear(current: &CurrentSession, prefix: &str) -> Result<u64, StoreError> {
    let mut cleared = 0_u64;
    for _ in 0..TRIES {
        let session = current.get()?;
        if !session.is_whole() {
            return Err(current.unreachable()); // what it has would be left
        }
        if are_slots_as_known(current, &session).await? == Slots::AsKnown {
            let clears = session.links().iter().map(|link| {
                current.ask_on(&session, link, prefix, async |on| {
                    scan::clear(on, prefix).await
                })
            });
            let counts = try_join_all(clears).await?.into_iter();
            cleared = counts.fold(cleared, u64::saturating_add);
            if are_slots_as_known(current, &session).await? == Slots::AsKnown {
                publish_clear(current, &session, prefix).await?;
                return Ok(cleared);
            }
        }
        current.reconnect(&session).await;
    }
    Err(current.refused(MIGRATING))
}

/// Like [`clear`], through a session that is not in service yet. Slots that have moved are an
/// error: the next session has another slot map.
pub(crate) async fn clear_before_service(session: &Session, prefix: &str) -> RedisResult<()> {
    expect_slots(session).await?;
    for link in session.links() {
        scan::clear(link.target.clone(), prefix).await?;
    }
    expect_slots(session).await?;
    let publisher = session.publisher();
    if publisher.is_silent() {
        return Ok(());
    }
    // P26 scripts-publish: after the last key, as for any clear.
    let mut publish = cmd("PUBLISH");
    publish
        .arg(publisher.channel())
        .arg(publisher.prefix_message(prefix));
    let Some(link) = session.links().first() else {
        return Ok(());
    };
    publish
        .exec_async(&mut link.target.connection.clone())
        .await
}

const MIGRATING: &str =
    "hash slots are on their way from one master to another: clear again when they have arrived";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slots {
    AsKnown,
    Moved,
}

/// Asks each master whether it has the slots that the session's map gives it.
async fn are_slots_as_known(
    current: &CurrentSession,
    session: &Arc<Session>,
) -> Result<Slots, StoreError> {
    if session.slot_map.masters().is_empty() {
        return Ok(Slots::AsKnown);
    }
    let asked = session.links().iter().map(|link| {
        let nodes = cluster_nodes();
        current.ask_on(session, link, "", async move |mut on| {
            nodes.query_async::<String>(&mut on.connection).await
        })
    });
    for (master, said) in try_join_all(asked).await?.iter().enumerate() {
        let own = own_slots(said).ok_or_else(|| current.refused(MIGRATING))?;
        if !session.slot_map.slots(master).eq(own) {
            return Ok(Slots::Moved);
        }
    }
    Ok(Slots::AsKnown)
}

async fn expect_slots(session: &Session) -> RedisResult<()> {
    if session.slot_map.masters().is_empty() {
        return Ok(());
    }
    for (master, link) in session.links_by_master() {
        let said: String = cluster_nodes()
            .query_async(&mut link.target.connection.clone())
            .await?;
        if !own_slots(&said).is_some_and(|own| session.slot_map.slots(master).eq(own)) {
            return Err((ErrorKind::Client, "hash slots have moved to another master").into());
        }
    }
    Ok(())
}

fn cluster_nodes() -> Cmd {
    cmd("CLUSTER").arg("NODES").take()
}

// P26 scripts-publish: after the last key, because what was read in between may be old. Nothing is
// published for each key.
async fn publish_clear(
    current: &CurrentSession,
    session: &Arc<Session>,
    prefix: &str,
) -> Result<(), StoreError> {
    let publisher = session.publisher();
    if publisher.is_silent() {
        return Ok(());
    }
    current
        .publish(publisher, &publisher.prefix_message(prefix))
        .await
}
