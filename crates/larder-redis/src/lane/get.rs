//! Reads of one value, of any size.

use deadpool_redis::redis::{RedisResult, Value, pipe};
use larder_core::{StoreError, Stored, Track, Want};

use crate::{
    command::{
        look,
        reply::{LARGE_VALUE, ReadReply, unexpected},
        scripts::{self, is_unknown_script},
        target::Target,
        tracking::Tracks,
    },
    connection::session::Link,
    lane::current::CurrentSession,
};

/// Reads a value, with its remaining time to live if the caller asks for that. With
/// [`Track::Value`], the lane tracks the key from now on if there is a value.
pub(crate) async fn get(
    current: &CurrentSession,
    key: &str,
    want: Want,
    track: Track,
) -> Result<Option<Stored>, StoreError> {
    let session = current.get()?;
    let link = current.link(&session, key)?;
    link.note_used();
    let tracks = current.tracks(&session, track);
    let read = match link.reads.read(key, want, tracks).await {
        Err(error) if tracks == Tracks::Found && is_unknown_script(&error) => {
            let looked = scripts::look(link.target.clone(), key, LARGE_VALUE);
            looked.await.and_then(look::read_reply)
        }
        read => read,
    };
    match read.and_then(ReadReply::stored_unless_empty) {
        Ok(None) => {
            if track == Track::Value {
                current.absences.add(1);
            }
            Ok(None)
        }
        Ok(Some(stored)) if stored.value.len() >= LARGE_VALUE => {
            get_large(current, link, key).await
        }
        Ok(stored) => Ok(stored),
        Err(error) => {
            current.on_error(&session, link, &error);
            Err(current.describe(error, &link.endpoint.shown, key))
        }
    }
}

/// Reads a value out of band, with its remaining time to live.
// P29 large-out-of-band: the lane has read the key before, so it is told of whatever happens to the
// value from then on.
pub(crate) async fn get_large(
    current: &CurrentSession,
    link: &Link,
    key: &str,
) -> Result<Option<Stored>, StoreError> {
    current.note_large_value();
    let limit = current.max_value_size();
    current
        .ask_out_of_band(link, key, async |on| read_whole(on, key, limit).await)
        .await
}

/// Reads a whole value and its time to live, in one round trip. A value beyond the limit was
/// written by another program: it is removed, and no more of it is read than the limit.
async fn read_whole(mut on: Target, key: &str, limit: usize) -> RedisResult<Option<Stored>> {
    let mut both = pipe();
    both.cmd("GETRANGE").arg(key).arg(0).arg(limit);
    both.cmd("PTTL").arg(key);
    let replies = on.connection.send_packed_commands(&both, 0, 2).await?;
    let [value, pttl] = <[Value; 2]>::try_from(replies).map_err(|_| unexpected())?;
    let found = ReadReply {
        value,
        pttl: Some(pttl),
    }
    .stored_unless_empty()?;
    match found {
        Some(stored) if stored.value.len() > limit => {
            scripts::remove_oversized(on, key, limit).await?;
            Ok(None)
        }
        found => Ok(found),
    }
}
