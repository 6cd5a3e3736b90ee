//! Invalidations of keys and tags, sent now or remembered.

use std::sync::Arc;

use deadpool_redis::redis::RedisResult;
use larder_core::{Invalidated, Key, StoreError, Token};

use crate::{
    command::{scripts, target::Target},
    connection::session::{Link, Session},
    error::{is_final, words},
    lane::{
        current::{CurrentSession, TRIES},
        unsent_queue::{Remembered, UnsentQueue},
    },
    redo::{Redo, log::Kind},
};

/// Whether an invalidation reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// It did not, and the lane is down: the invalidation must be remembered.
    LaneIsDown,
}

/// Invalidates a key, or remembers to.
pub(crate) async fn invalidate(
    current: &CurrentSession,
    unsent: &UnsentQueue,
    redo: &Redo,
    key: &Key,
    own: Option<&Token>,
) -> Result<Invalidated, StoreError> {
    // P30 forgotten-is-redone: before the session is taken.
    let _noted = redo.note(Kind::Key, key.as_str());
    for _ in 0..TRIES {
        let session = current.load();
        let link = session
            .as_ref()
            .and_then(|session| Some((session, session.link(key.as_str())?)));
        let Some((session, link)) = link else {
            match unsent.remember_key(current, key, own).await? {
                Remembered::Yes => return Ok(Invalidated::Deferred),
                Remembered::LaneIsUp => continue,
            }
        };
        let ask = async |on| scripts::invalidate(on, key.as_str(), own).await;
        if send_on(current, session, link, key.as_str(), ask).await? == Sent::Yes {
            return Ok(Invalidated::Done);
        }
    }
    // Connections come and fail: leave it to the next session, and see to it that there is a next
    // one.
    while unsent.remember_key(current, key, own).await? == Remembered::LaneIsUp {
        current.give_up(&"an invalidation failed on it");
    }
    Ok(Invalidated::Deferred)
}

/// Invalidates a tag, for all lanes.
pub(crate) async fn invalidate_tag(
    current: &CurrentSession,
    tag: &str,
) -> Result<Sent, StoreError> {
    let Some(session) = current.load() else {
        return Ok(Sent::LaneIsDown);
    };
    let ask = async |on| scripts::invalidate_tag(on, tag).await;
    let Some(link) = session.tags_link() else {
        return Ok(Sent::LaneIsDown);
    };
    let epoch = session.names().epoch();
    send_on(current, &session, link, epoch, ask).await
}

async fn send_on(
    current: &CurrentSession,
    session: &Arc<Session>,
    link: &Link,
    key: &str,
    ask: impl AsyncFnOnce(Target) -> RedisResult<()>,
) -> Result<Sent, StoreError> {
    match current.try_on(session, link, ask).await {
        Ok(()) => Ok(Sent::Yes),
        Err(error) if is_final(&error) => Err(current.describe(error, &link.endpoint.shown, key)),
        // P11 unsent-goes-first: also what was refused for now must be done before any caller reads
        // through the lane again.
        Err(error) => {
            current.drop_session(session, &link.endpoint.shown, &words(&error));
            Ok(Sent::LaneIsDown)
        }
    }
}
