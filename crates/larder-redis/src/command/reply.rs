//! Replies, as the commands of this crate expect them.

use std::time::Duration;

use bytes::Bytes;
use deadpool_redis::redis::{ErrorKind, RedisError, RedisResult, Value};
use larder_core::Stored;

/// The size in bytes from which on a value is large: 64 KiB. Replies on one connection come in
/// order, so whatever is asked after or with a large value would wait until it has arrived; it
/// therefore travels out of band, over another connection.
pub(crate) const LARGE_VALUE: usize = 64 * 1024;

/// `PTTL` says so of a key that does not exist.
const NO_KEY: i64 = -2;

/// The reply to a read of a key's value, and of its remaining time to live if the caller asked for
/// that.
pub(crate) struct ReadReply {
    pub(crate) value: Value,
    pub(crate) pttl: Option<Value>,
}

impl ReadReply {
    /// The value with its time to live, both whole.
    pub(crate) fn stored(self) -> RedisResult<Option<Stored>> {
        let value = bytes(self.value)?;
        match (value, self.pttl) {
            // With -2 the key expired between the two commands.
            (None, _) | (_, Some(Value::Int(NO_KEY))) => Ok(None),
            (Some(value), ttl) => Ok(Some(Stored {
                value,
                ttl: ttl.map(pttl).transpose()?.flatten(),
            })),
        }
    }

    /// Like [`stored`](Self::stored), for a command that replies with an empty value where there is
    /// none.
    pub(crate) fn stored_unless_empty(self) -> RedisResult<Option<Stored>> {
        Ok(self.stored()?.filter(|stored| !stored.value.is_empty()))
    }
}

/// A reply that none of our commands gives.
pub(crate) fn unexpected() -> RedisError {
    RedisError::from((
        ErrorKind::UnexpectedReturnType,
        "the reply does not belong to the command",
    ))
}

/// The bytes of a value, or `None` where there is none.
pub(crate) fn bytes(value: Value) -> RedisResult<Option<Bytes>> {
    match value.extract_error()? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())), // moved, not copied
        _ => Err(unexpected()),
    }
}

/// The reply to `PTTL`: `None` for a key without an end.
pub(crate) fn pttl(value: Value) -> RedisResult<Option<Duration>> {
    match value.extract_error()? {
        Value::Int(ms) => Ok(u64::try_from(ms).ok().map(Duration::from_millis)),
        _ => Err(unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str, pttl: Option<i64>) -> ReadReply {
        ReadReply {
            value: Value::BulkString(value.into()),
            pttl: pttl.map(Value::Int),
        }
    }

    #[test]
    fn value_has_the_time_that_was_asked_for() {
        let stored = |reply: ReadReply| reply.stored().unwrap();
        let value = |ttl| {
            Some(Stored {
                value: Bytes::from_static(b"v"),
                ttl,
            })
        };
        assert_eq!(stored(read("v", None)), value(None));
        assert_eq!(stored(read("v", Some(-1))), value(None));
        assert_eq!(
            stored(read("v", Some(5))),
            value(Some(Duration::from_millis(5)))
        );
        assert_eq!(
            stored(read("v", Some(-2))),
            None,
            "it expired between the two"
        );
        assert_eq!(
            stored(ReadReply {
                value: Value::Nil,
                pttl: Some(Value::Int(5))
            }),
            None
        );
        assert_eq!(read("", Some(5)).stored_unless_empty().unwrap(), None);
        assert!(read("", Some(5)).stored().unwrap().is_some());
        assert!(
            ReadReply {
                value: Value::Int(1),
                pttl: None
            }
            .stored()
            .is_err()
        );
    }
}
