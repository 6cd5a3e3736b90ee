//! The commands that read many values from one server that may be large, and their replies. Each
//! command names one key, so that no reply is larger than the caller can bound.

use deadpool_redis::redis::{Cmd, Pipeline, RedisResult, Value};
use larder_core::{Stored, Want};

use crate::{
    command::reply::{ReadReply, unexpected},
    error::is_wrong_type,
};

/// Asks for the sizes of the keys' values, which makes the server track the keys.
pub(crate) fn size_commands<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> Pipeline {
    let mut commands = Pipeline::with_capacity(keys.len());
    for key in keys {
        commands.add_command(of_key("STRLEN", key));
    }
    commands
}

/// The replies to [`size_commands`]: zero for a key without a value, or with one of another type.
pub(crate) fn sizes(replies: Vec<Value>) -> RedisResult<Vec<usize>> {
    replies
        .into_iter()
        .map(|reply| match reply.extract_error() {
            Ok(Value::Int(size)) => usize::try_from(size).map_err(|_| unexpected()),
            Ok(_) => Err(unexpected()),
            Err(error) if is_wrong_type(&error) => Ok(0),
            Err(error) => Err(error),
        })
        .collect()
}

/// Reads the first bytes of the keys' values, at most `most` of each.
pub(crate) fn read_commands<'a>(
    keys: impl ExactSizeIterator<Item = &'a str>,
    most: usize,
    want: Want,
) -> Pipeline {
    let each = if want.has_ttl() { 2 } else { 1 };
    let mut commands = Pipeline::with_capacity(each * keys.len());
    for key in keys {
        let mut read = of_key("GETRANGE", key);
        read.arg(0).arg(most.saturating_sub(1));
        commands.add_command(read);
        if want.has_ttl() {
            commands.add_command(of_key("PTTL", key));
        }
    }
    commands
}

/// The replies to [`read_commands`]; `None` also for a value of another type.
pub(crate) fn read_replies(replies: Vec<Value>, want: Want) -> RedisResult<Vec<Option<Stored>>> {
    let mut replies = replies.into_iter();
    let mut found = Vec::new();
    while let Some(value) = replies.next() {
        let pttl = if want.has_ttl() {
            Some(replies.next().ok_or_else(unexpected)?)
        } else {
            None
        };
        match (ReadReply { value, pttl }).stored_unless_empty() {
            Err(error) if is_wrong_type(&error) => found.push(None),
            stored => found.push(stored?),
        }
    }
    Ok(found)
}

fn of_key(command: &str, key: &str) -> Cmd {
    const LIMITS: usize = "0999999999".len();
    let mut asked = Cmd::with_capacity(4, command.len() + key.len() + LIMITS);
    asked.arg(command).arg(key);
    asked
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::parse_redis_value;

    use super::*;

    #[test]
    fn key_of_another_type_has_no_value_and_no_size() {
        let refused = || parse_redis_value(b"-WRONGTYPE Operation against a key\r\n").unwrap();
        assert_eq!(sizes(vec![Value::Int(5), refused()]).unwrap(), [5, 0]);
        let value = Value::BulkString(b"v".to_vec());
        let replies = vec![value, Value::Int(-1), refused(), Value::Int(-1)];
        let found = read_replies(replies, Want::ValueAndTtl).unwrap();
        assert!(found[0].is_some() && found[1].is_none(), "{found:?}");
        assert!(read_replies(vec![Value::Int(1)], Want::Value).is_err());
        assert!(sizes(vec![Value::Nil]).is_err());
    }
}
