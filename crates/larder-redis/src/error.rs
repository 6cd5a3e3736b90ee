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

/// Tells whether the server answered and refused just this command, for a reason that will not pass
/// by itself: the type of a key, the user's rights, a script that fails. It says nothing about
/// other commands.
pub(crate) fn is_final(error: &RedisError) -> bool {
    let was_killed = |detail: &str| detail.contains("Script killed by user");
    !(is_loss(error)
        || is_outage(error)
        || is_busy(error)
        || has_code(error, &["NOSCRIPT"])
        || error.detail().is_some_and(was_killed))
}

/// Tells whether the key holds a value of another type than the command is for.
pub(crate) fn is_wrong_type(error: &RedisError) -> bool {
    has_code(error, &["WRONGTYPE"])
}

/// Tells whether the user lacks the right to do this.
pub(crate) fn is_denied(error: &RedisError) -> bool {
    // Within a script only the words say so, which differ up to Redis 7.0 and after it.
    let in_script = |detail: &str| {
        let words = in_script(detail).unwrap_or(detail);
        words.contains("user executing the script can't") || words.contains("ACL failure in script")
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
    let given = match (error.code(), error.detail()) {
        (Some("ERR"), Some(detail)) => in_script(detail).and_then(first_word),
        (Some("@user_script:"), Some(detail)) => first_word(without_places(detail)),
        (code, _) => code,
    };
    given.is_some_and(|given| codes.contains(&given))
}

/// The words of a command that failed within a script, as Redis before 7.0 quotes them.
fn in_script(detail: &str) -> Option<&str> {
    let (_, words) = detail
        .strip_prefix("Error running script (call to f_")?
        .split_once("): ")?;
    Some(without_places(words))
}

/// The words without the places in the script that stand before them: `@user_script:11: `, or
/// `@user_script: 11: -`.
fn without_places(mut words: &str) -> &str {
    loop {
        let place = words.trim_start_matches("@user_script:").trim_start();
        let rest = place.trim_start_matches(|c: char| c.is_ascii_digit());
        match rest.strip_prefix(": ") {
            Some(rest) if rest.len() + 2 < place.len() => words = rest,
            _ => return words.strip_prefix('-').unwrap_or(words),
        }
    }
}

fn first_word(words: &str) -> Option<&str> {
    words.split(' ').next()
}

/// The most characters of a server's words that an error or the log shows, 80: they may quote what
/// another program wrote.
const SHOWN: usize = 80;

/// The server's or connection's words, short enough for a log.
pub(crate) fn words(error: &RedisError) -> String {
    let said = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => match in_script(detail) {
            Some(words) => words.to_owned(),
            None => format!("{code} {detail}"),
        },
        _ => error.to_string(),
    };
    match said.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said,
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
                reason: words(&error),
            },
            _ => StoreError::Unauthorized { address },
        };
    }
    if is_wrong_type(&error) {
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
        reason: words(&error),
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
                "ERR Error running script (call to f_d9b4): @user_script:1: Script killed by user with SCRIPT KILL...",
                false,
            ),
            (
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                false,
            ),
            ("ERR value is not an integer or out of range", true),
            (
                "ERR unknown command 'EVALSHA', with args beginning with: ",
                true,
            ),
            (
                "ERR Error running script (call to f_d9b4): @user_script:1: user_script:1: attempt to compare nil",
                true,
            ),
            // What a script quotes is no code.
            (
                "ERR Error running script (call to f_d9b4): @user_script:1: bad: -READONLY You can't",
                true,
            ),
        ] {
            let error = said(words);
            assert!(!is_outage(&error) && !is_loss(&error), "{words}");
            assert_eq!(is_final(&error), is_final_too, "{words}");
        }
    }

    #[test]
    fn wrong_type_is_known_by_the_words_of_every_version() {
        let refusal = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let (old, place) = (
            "ERR Error running script (call to f_d9b4): ",
            "@user_script:13: ",
        );
        for words in [
            refusal.to_owned(),
            format!("{refusal} script: d9b4, on @user_script:1."),
            format!("{old}{place}{refusal}"),
            format!("{old}{place}@user_script: 13: -{refusal}"),
        ] {
            assert!(is_wrong_type(&said(&words)), "{words}");
        }
        assert!(!is_wrong_type(&said("ERR WRONGTYPE is what it is called")));
        assert!(is_outage(&said(
            "@user_script: 1: -OOM command not allowed"
        )));
    }

    #[test]
    fn words_of_a_server_are_cut() {
        let shown = words(&said(&format!("ERR no number: {}", "ü".repeat(5000))));
        assert!(
            shown.starts_with("ERR no number: ü") && shown.ends_with("ü…"),
            "{shown}"
        );
        assert_eq!(shown.chars().count(), SHOWN + 1);
        let error = describe(said(&"x".repeat(5000)), "a", Duration::ZERO, "k");
        assert!(error.to_string().len() < 200, "{error}");
    }
}
