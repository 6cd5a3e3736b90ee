//! Reads that have the server track a key only where there is a value.

use deadpool_redis::redis::{Pipeline, RedisResult, Value};
use larder_core::Stored;

use crate::{
    command::{
        reply::{ReadReply, unexpected},
        scripts::{self, is_unknown_script},
        target::Target,
    },
    error::is_wrong_type,
};

/// A value, or the beginning of it.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) stored: Stored,
    /// The size of the whole value in bytes.
    pub(crate) size: usize,
}

impl Looked {
    pub(crate) fn is_whole(&self) -> bool {
        self.stored.value.len() == self.size
    }
}

/// Reads the first bytes of the keys' values, at most `most` of each, in one round trip. `None`
/// also for a value of another type.
pub(crate) async fn many(
    mut on: Target,
    keys: &[&str],
    most: usize,
) -> RedisResult<Vec<Option<Looked>>> {
    let mut commands = Pipeline::with_capacity(keys.len());
    for key in keys {
        commands.add_command(scripts::look_call(key, most));
    }
    let mut replies = send(&mut on, &commands).await?;
    let is_unknown = |reply: &Value| match reply {
        Value::ServerError(refusal) => is_unknown_script(&refusal.clone().into()),
        _ => false,
    };
    if replies.iter().any(is_unknown)
        && let Some(first) = keys.first()
    {
        scripts::look(on.clone(), first, most).await?; // the server knows the script after that
        replies = send(&mut on, &commands).await?;
    }
    replies.into_iter().map(looked).collect()
}

async fn send(on: &mut Target, commands: &Pipeline) -> RedisResult<Vec<Value>> {
    on.connection
        .send_packed_commands(commands, 0, commands.len())
        .await
}

/// The reply of the script `look`, as that of a read.
pub(crate) fn read_reply(reply: Value) -> RedisResult<ReadReply> {
    let (value, pttl) = match reply.extract_error()? {
        Value::Nil => (Value::Nil, None),
        Value::Array(found) => {
            let [value, pttl, _size] = <[Value; 3]>::try_from(found).map_err(|_| unexpected())?;
            (value, Some(pttl))
        }
        _ => return Err(unexpected()),
    };
    Ok(ReadReply { value, pttl })
}

pub(crate) fn looked(reply: Value) -> RedisResult<Option<Looked>> {
    let size = match &reply {
        Value::Array(found) => match found.last() {
            Some(Value::Int(size)) => usize::try_from(*size).map_err(|_| unexpected())?,
            _ => return Err(unexpected()),
        },
        _ => 0,
    };
    match read_reply(reply).and_then(ReadReply::stored) {
        // An empty value counts as none.
        Ok(stored) => Ok(stored
            .filter(|_| size > 0)
            .map(|stored| Looked { stored, size })),
        Err(error) if is_wrong_type(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::parse_redis_value;

    use super::*;

    #[test]
    fn beginning_of_a_value_is_not_the_whole_of_it() {
        let read = |value: &str, size| {
            let value = Value::BulkString(value.into());
            let reply = vec![value, Value::Int(5), Value::Int(size)];
            looked(Value::Array(reply)).unwrap()
        };
        assert!(read("v", 1).unwrap().is_whole());
        assert!(!read("v", 2).unwrap().is_whole());
        assert!(!read("", 2).unwrap().is_whole(), "its size was wanted");
        assert!(read("", 0).is_none(), "an empty value counts as none");
        assert!(looked(Value::Nil).unwrap().is_none());
        let refused = parse_redis_value(b"-WRONGTYPE Operation against a key\r\n").unwrap();
        assert!(looked(refused).unwrap().is_none());
        assert!(looked(Value::Int(1)).is_err());
    }
}
