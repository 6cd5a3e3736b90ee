//! Claims and commits of one key.

use std::time::Duration;

use deadpool_redis::redis::RedisResult;
use larder_core::{Claim, Committed, Replacing, StoreError, Token, Track};

use crate::{
    command::{
        scripts::{self, ClaimReply, CommitReply},
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
    track: Track,
) -> Result<Claim, StoreError> {
    let session = current.get()?;
    let link = current.link(&session, key)?;
    let tracks = current.tracks(&session, track);
    let ask = async |on| scripts::claim(on, key, token, lease, replacing, tracks).await;
    let reply = current.ask_on(&session, link, key, ask).await?;
    if track == Track::Value && matches!(reply, ClaimReply::Hit(_) | ClaimReply::LargeHit) {
        current.absences.take_one();
    }
    Ok(match reply {
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

/// Runs a commit over the lane, which tracks the key from then on if the caller relies on that.
// P4 l1-read-from-l2
pub(crate) async fn commit(
    current: &CurrentSession,
    health: &Health,
    key: &str,
    track: Track,
    commit: impl AsyncFnOnce(Target) -> RedisResult<CommitReply>,
) -> Result<(CommitReply, Committed), StoreError> {
    let session = current.get()?;
    let told = session.tracks && !health.is_deaf();
    let link = current.link(&session, key)?;
    let reply = current.ask_on(&session, link, key, commit).await?;
    let committed = match (reply, track) {
        (CommitReply::Refused, _) => Committed::Refused,
        (_, Track::Nothing) => Committed::Stored,
        (_, Track::Value) => Committed::Tracked { told },
    };
    Ok((reply, committed))
}

/// Runs a commit of a large value out of band. The lane has yet to read the value.
pub(crate) async fn commit_large(
    current: &CurrentSession,
    key: &str,
    commit: impl AsyncFnOnce(Target) -> RedisResult<CommitReply>,
) -> Result<(CommitReply, Committed), StoreError> {
    current.note_large_value();
    let session = current.get()?;
    let link = current.link(&session, key)?;
    let reply = current.ask_out_of_band(link, key, commit).await?;
    let committed = match reply {
        CommitReply::Refused => Committed::Refused,
        _ => Committed::Stored,
    };
    Ok((reply, committed))
}
