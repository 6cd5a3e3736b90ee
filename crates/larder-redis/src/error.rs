use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{ErrorKind, RedisError};
use larder_core::StoreError;

/// Tells whether the connection can no longer be relied on. A time-out counts: replies come in order, so whatever
/// is asked next would wait behind the one that did not come. So does a server that has become a replica: its address
/// may lead to the new master. And so does a cluster whose slots are on the move: where they are is asked anew.
pub(crate) fn is_loss(error: &RedisError) -> bool {
    error.is_timeout()
        || error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || matches!(error.code(), Some("READONLY" | "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN"))
}

/// Tells whether the server does not know RESP3, or the command that switches it on, or does not let us use it.
pub(crate) fn is_without_resp3(error: &RedisError) -> bool {
    let names_hello = |detail: &str| detail.to_ascii_lowercase().contains("'hello'");
    error.kind() == ErrorKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || error.detail().is_some_and(names_hello)
}

/// Says for the user what Redis or the connection said.
pub(crate) fn describe(error: RedisError, address: &str, timeout: Duration, key: &str) -> StoreError {
    let address = address.to_owned();
    if error.is_timeout() {
        return StoreError::TimedOut { address, after: timeout };
    }
    if error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
    {
        return match error.code() {
            Some("NOPERM") => StoreError::Refused { address, reason: error.to_string() },
            _ => StoreError::Unauthorized { address },
        };
    }
    if error.code() == Some("WRONGTYPE") {
        return StoreError::WrongType { key: key.to_owned() };
    }
    if is_loss(&error) {
        return StoreError::Unreachable { address, source: Some(Arc::new(error)) };
    }
    StoreError::Refused { address, reason: error.to_string() }
}
