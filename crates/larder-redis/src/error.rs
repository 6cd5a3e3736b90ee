//! The meaning of the errors of servers and connections.

use std::{fmt, sync::Arc, time::Duration};

use deadpool_redis::redis::{ErrorKind, RedisError};
use larder_core::StoreError;

/// Tells whether the connection can no longer be relied on, which includes:
///
/// - a time-out: replies come in order, so the next one would wait behind the one that did not come
/// - a server that has become a replica: its address may lead to the new master
/// - a cluster whose slots move: the next session asks where they are
pub(crate) fn is_loss(error: &RedisError) -> bool {
    error.is_timeout()
        || error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || has_code(
            error,
            &["READONLY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"],
        )
}

/// The codes of a server that takes no writes, whatever the key is. Leases and invalidations are
/// writes, so such a server cannot keep the protocol.
const TAKES_NO_WRITES: [&str; 7] = [
    "OOM",
    "MISCONF",
    "READONLY",
    "NOREPLICAS",
    "LOADING",
    "MASTERDOWN",
    "NOAUTH",
];

/// Tells whether the circuit breaker is to open: the server does not answer, or takes no writes. A
/// connection that was merely lost says nothing about its server.
pub(crate) fn is_outage(error: &RedisError) -> bool {
    error.is_timeout() || has_code(error, &TAKES_NO_WRITES)
}

/// Tells whether the server is a replica, which takes no writes.
pub(crate) fn is_replica(error: &RedisError) -> bool {
    has_code(error, &["READONLY"])
}

/// Tells whether another client's script keeps the server from everything else.
pub(crate) fn is_busy(error: &RedisError) -> bool {
    error.code() == Some("BUSY")
}

/// Tells whether the refusal is permanent: it is about this key's type or this user's rights.
pub(crate) fn is_final(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || is_denied(error)
}

/// Tells whether the user lacks the right to do this.
pub(crate) fn is_denied(error: &RedisError) -> bool {
    // Within a script only the words say so, which differ up to Redis 7.0 and after it.
    let in_script = |detail: &str| {
        detail.contains("user executing the script can't")
            || detail.contains("ACL failure in script")
    };
    error.code() == Some("NOPERM") || error.detail().is_some_and(in_script)
}

/// The beginning of the detail of an error which says that a provider of credentials failed.
const NO_CREDENTIALS: &str = "the credentials provider failed: ";

/// The error of a connection for which the provider had no credentials.
pub(crate) fn no_credentials(error: &dyn fmt::Display) -> RedisError {
    let detail = format!("{NO_CREDENTIALS}{error}");
    RedisError::from((ErrorKind::Client, "cannot log in", detail))
}

fn is_without_credentials(error: &RedisError) -> bool {
    let detail = error.detail().unwrap_or_default();
    detail.starts_with(NO_CREDENTIALS)
}

/// Whether the server gave one of these codes. Redis before 7.0 quotes the code of a command within
/// a script.
fn has_code(error: &RedisError, codes: &[&str]) -> bool {
    match error.code() {
        Some("ERR") => {
            let detail = error.detail().unwrap_or_default();
            codes
                .iter()
                .any(|code| detail.contains(&format!(": -{code} ")))
        }
        code => code.is_some_and(|code| codes.contains(&code)),
    }
}

/// Tells whether the server does not know RESP3, or the command that switches it on, or does not
/// let this user use it.
pub(crate) fn is_without_resp3(error: &RedisError) -> bool {
    let names_hello = |detail: &str| detail.to_ascii_lowercase().contains("'hello'");
    error.kind() == ErrorKind::RESP3NotSupported
        || error.code() == Some("NOPROTO")
        || error.detail().is_some_and(names_hello)
}

/// Turns the error of a server or connection into one for the caller.
pub(crate) fn describe(
    error: RedisError,
    address: &str,
    timeout: Duration,
    key: &str,
) -> StoreError {
    let address = address.to_owned();
    if error.is_timeout() {
        return StoreError::TimedOut {
            address,
            after: timeout,
        };
    }
    if error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
    {
        return match error.code() {
            Some("NOPERM") => StoreError::Refused {
                address,
                reason: error.to_string(),
            },
            _ => StoreError::Unauthorized { address },
        };
    }
    if error.code() == Some("WRONGTYPE") {
        return StoreError::WrongType {
            key: key.to_owned(),
        };
    }
    if is_loss(&error) || is_without_credentials(&error) {
        return StoreError::Unreachable {
            address,
            source: Some(Arc::new(error)),
        };
    }
    StoreError::Refused {
        address,
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::{Value, parse_redis_value};

    use super::*;

    /// The client's error for an error reply.
    fn said(words: &str) -> RedisError {
        match parse_redis_value(format!("-{words}\r\n").as_bytes()).and_then(Value::extract_error) {
            Err(error) => error,
            Ok(value) => panic!("{value:?} is no error"),
        }
    }

    #[test]
    fn server_that_takes_no_writes_is_an_outage() {
        for words in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            "READONLY You can't write against a read only replica. script: d9b4, on @user_script:11.",
            "ERR Error running script (call to f_d9b4): @user_script:13: @user_script: 13: -OOM command not allowed",
            "ERR Error running script (call to f_d9b4): @user_script:13: -READONLY You can't write against a replica.",
            "NOREPLICAS Not enough good replicas to write.",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "NOAUTH Authentication required.",
        ] {
            let error = said(words);
            assert!(is_outage(&error) && !is_final(&error), "{words}");
            assert_eq!(is_loss(&error), words.contains("READONLY "), "{words}");
        }
    }

    #[test]
    fn refusal_of_one_command_is_no_outage() {
        for (words, is_final_too) in [
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                true,
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                true,
            ),
            (
                "ERR The user executing the script can't run this command or subcommand script: d9b4, on @u:11.",
                true,
            ),
            (
                "ERR ACL failure in script: User x has no permissions to run the 'del' command",
                true,
            ),
            ("NOSCRIPT No matching script. Please use EVAL.", false),
            (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                false,
            ),
            ("ERR value is not an integer or out of range", false),
        ] {
            let error = said(words);
            assert!(!is_outage(&error) && !is_loss(&error), "{words}");
            assert_eq!(is_final(&error), is_final_too, "{words}");
        }
    }
}
