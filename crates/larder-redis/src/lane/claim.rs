//! Claims and commits of one key.

use std::time::Duration;

use deadpool_redis::redis::RedisResult;
use larder_core::{Claim, Committed, Replacing, StoreError, Token};

use crate::{
    command::{
        scripts::{self, ClaimReply},
        target::Target,
    },
    lane::{current::CurrentSession, get::get_large, health::Health},
};

/// Asks for the right to fill a key.
pub(crate) async fn claim(
    current: &CurrentSession,
    key: &str,
    token: &Token,
    lease: Duration,
    replacing: Replacing<'_>,
) -> Result<Claim, StoreError> {
    let session = current.get()?;
    let link = current.link(&session, key)?;
    let ask = async |on| scripts::claim(on, key, token, lease, replacing).await;
    Ok(match current.ask_on(&session, link, key, ask).await? {
        ClaimReply::Hit(stored) => Claim::Hit(stored),
        ClaimReply::Leased => Claim::Leased,
        ClaimReply::Busy(rest) => Claim::Busy(rest),
        ClaimReply::LargeHit => {
            let stored = get_large(current, link, key).await?;
            // If the value has gone meanwhile, the caller is to claim the key again.
            stored.map_or(Claim::Busy(Duration::ZERO), Claim::Hit)
        }
    })
}

/// Runs a commit over the lane, which tracks the key from then on.
// P4 l1-read-from-l2
pub(crate) async fn commit(
    current: &CurrentSession,
    health: &Health,
    key: &str,
    commit: impl AsyncFnOnce(Target) -> RedisResult<bool>,
) -> Result<Committed, StoreError> {
    let session = current.get()?;
    let told = session.tracks && !health.is_deaf();
    let link = current.link(&session, key)?;
    let is_done = current.ask_on(&session, link, key, commit).await?;
    Ok(if is_done {
        Committed::Tracked { told }
    } else {
        Committed::Refused
    })
}

/// Runs a commit of a large value out of band. The lane has yet to read the value.
pub(crate) async fn commit_large(
    current: &CurrentSession,
    key: &str,
    commit: impl AsyncFnOnce(Target) -> RedisResult<bool>,
) -> Result<Committed, StoreError> {
    current.note_large_value();
    let session = current.get()?;
    let link = current.link(&session, key)?;
    let is_done = current.ask_out_of_band(link, key, commit).await?;
    Ok(if is_done {
        Committed::Stored
    } else {
        Committed::Refused
    })
}
