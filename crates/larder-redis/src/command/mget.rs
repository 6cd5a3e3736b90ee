//! `MGET` and what goes with it: the commands that read many keys from one server, and their
//! replies.

use deadpool_redis::redis::{Pipeline, RedisResult, Value, pipe};
use larder_core::{Stored, Want};

use crate::command::reply::{ReadReply, unexpected};

/// Keys of one hash slot, which one `MGET` may name (where the server is no cluster: all keys),
/// each by its position among the keys that the caller asked for.
pub(crate) type SlotGroup = Vec<usize>;

/// Reads the keys' values.
pub(crate) fn read_commands(keys: &[&str], groups: &[SlotGroup], want: Want) -> Pipeline {
    let mut commands = pipe();
    for group in groups {
        let get = commands.cmd("MGET");
        for at in group {
            get.arg(keys[*at]);
        }
        if want.has_ttl() {
            for at in group {
                commands.cmd("PTTL").arg(keys[*at]);
            }
        }
    }
    commands
}

/// The replies to [`read_commands`], each with its key's position.
pub(crate) fn read_replies(
    groups: &[SlotGroup],
    replies: Vec<Value>,
    want: Want,
) -> RedisResult<Vec<(usize, Option<Stored>)>> {
    let mut replies = replies.into_iter();
    let mut found = Vec::new();
    for group in groups {
        let values = match replies.next().ok_or_else(unexpected)?.extract_error()? {
            Value::Array(values) if values.len() == group.len() => values,
            _ => return Err(unexpected()),
        };
        for (at, value) in group.iter().zip(values) {
            let pttl = if want.has_ttl() {
                Some(replies.next().ok_or_else(unexpected)?)
            } else {
                None
            };
            found.push((*at, ReadReply { value, pttl }.stored_unless_empty()?)); // as a read of one key
        }
    }
    Ok(found)
}
