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
        || has_code(error, &["READONLY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"])
}

/// What a server says that takes no writes, whatever the key is. Leases and invalidations are writes, so it cannot keep the
/// protocol.
const TAKES_NO_WRITES: [&str; 7] =
    ["OOM", "MISCONF", "READONLY", "NOREPLICAS", "LOADING", "MASTERDOWN", "NOAUTH"];

/// Tells whether the whole server is to be left alone for a while: it does not answer, or takes no writes. A connection
/// that was merely lost says nothing about it.
pub(crate) fn is_outage(error: &RedisError) -> bool {
    error.is_timeout() || has_code(error, &TAKES_NO_WRITES)
}

/// Tells whether the server is kept from anything else by somebody's script.
pub(crate) fn is_busy(error: &RedisError) -> bool {
    error.code() == Some("BUSY")
}

/// Tells whether the refusal is about this key or this user, so that it would be repeated whenever it is asked again.
pub(crate) fn is_final(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE") || is_denied(error)
}

/// Tells whether the user may not do this.
pub(crate) fn is_denied(error: &RedisError) -> bool {
    // Of a command within a script only the words say so: those of 7.0 and before, and of later ones.
    let in_script = |detail: &str| {
        detail.contains("user executing the script can't") || detail.contains("ACL failure in script")
    };
    error.code() == Some("NOPERM") || error.detail().is_some_and(in_script)
}

/// Whether the server gave one of these codes. Redis before 7.0 quotes what a command within a script was refused with.
fn has_code(error: &RedisError, codes: &[&str]) -> bool {
    match error.code() {
        Some("ERR") => {
            let detail = error.detail().unwrap_or_default();
            codes.iter().any(|code| detail.contains(&format!(": -{code} ")))
        }
        code => code.is_some_and(|code| codes.contains(&code)),
    }
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

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::{Value, parse_redis_value};

    use super::*;

    /// What the client makes of an error reply.
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
            ("WRONGTYPE Operation against a key holding the wrong kind of value", true),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", true),
            (
                "ERR The user executing the script can't run this command or subcommand script: d9b4, on @u:11.",
                true,
            ),
            ("ERR ACL failure in script: User x has no permissions to run the 'del' command", true),
            ("NOSCRIPT No matching script. Please use EVAL.", false),
            ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", false),
            ("ERR value is not an integer or out of range", false),
        ] {
            let error = said(words);
            assert!(!is_outage(&error) && !is_loss(&error), "{words}");
            assert_eq!(is_final(&error), is_final_too, "{words}");
        }
    }
}
