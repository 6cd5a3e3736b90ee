//! The rights that a store needs: the one table of commands, keys and channels, and the trial of
//! each when a store connects.

use std::{fmt::Write as _, time::Duration};

use deadpool_redis::redis::{Cmd, Pipeline, RedisError, Value, cmd};
use futures_util::future::join_all;
use larder_core::{StoreError, Token};

use crate::{
    command::publisher::Publisher,
    connection::{dialer::IS_REPLICA, session::Session},
    error::describe,
};

/// A command that a store sends, or that one of its scripts runs.
///
/// ```
/// use larder_redis::RIGHTS;
///
/// let needed = RIGHTS.iter().filter(|right| right.without.is_none());
/// assert!(needed.clone().any(|right| right.command == "evalsha"));
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Right {
    /// The command as an ACL names it: in small letters, a subcommand after a bar.
    pub command: &'static str,
    /// The reason for sending it.
    pub purpose: &'static str,
    /// The kind of names that it takes.
    pub on: Named,
    /// The loss where the server refuses it. `None`: then a store does not connect. Nor does it if
    /// the server refuses both `CLIENT TRACKING` and `PUBLISH`.
    pub without: Option<&'static str>,
}

/// The kind of names that a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Named {
    /// Nothing.
    Nothing,
    /// Values, and the names that only larder uses.
    Keys,
    /// The invalidation channel.
    Channel,
}

const fn needed(command: &'static str, on: Named, purpose: &'static str) -> Right {
    Right {
        command,
        purpose,
        on,
        without: None,
    }
}

const fn useful(
    command: &'static str,
    on: Named,
    purpose: &'static str,
    without: &'static str,
) -> Right {
    Right {
        command,
        purpose,
        on,
        without: Some(without),
    }
}

/// Everything that a store asks of a server.
pub const RIGHTS: &[Right] = &[
    needed("ping", Named::Nothing, "whether a connection lives"),
    needed("getrange", Named::Keys, "reads"),
    needed("get", Named::Keys, "reads in scripts"),
    needed(
        "strlen",
        Named::Keys,
        "sizes of large values, and whether a key holds one, in scripts",
    ),
    needed(
        "exists",
        Named::Keys,
        "probes, and a value that was just written, in scripts",
    ),
    needed("pttl", Named::Keys, "how long an entry lives"),
    needed("mget", Named::Keys, "reads of many keys"),
    useful(
        "getex",
        Named::Keys,
        "reads in scripts that the server need not track",
        "the server also tracks leases that nobody waits for, and all keys that were looked up and do not exist",
    ),
    needed("evalsha", Named::Keys, "each step of the protocol"),
    needed(
        "eval",
        Named::Keys,
        "a script that the server does not know yet",
    ),
    needed("set", Named::Keys, "values, leases, tags and probes"),
    needed("del", Named::Keys, "invalidations, in scripts"),
    needed("pexpire", Named::Keys, "longer lives, in scripts"),
    needed("time", Named::Nothing, "tag epochs, in scripts"),
    needed("scan", Named::Nothing, "clears of a policy"),
    needed("unlink", Named::Keys, "clears of a policy"),
    useful(
        "publish",
        Named::Channel,
        "changes, where `CLIENT TRACKING` is refused",
        "nothing where the server tracks; **needed** where `CLIENT TRACKING` is refused",
    ),
    useful(
        "subscribe",
        Named::Channel,
        "changes, where `CLIENT TRACKING` is refused",
        "entries in L1 live for `degraded_l1_ttl`",
    ),
    useful(
        "hello",
        Named::Nothing,
        "RESP3, which has pushes",
        "as without `CLIENT TRACKING`",
    ),
    useful(
        "client|tracking",
        Named::Nothing,
        "pushes of changes",
        "entries in L1 live for `degraded_l1_ttl`, unless all processes are set to `Coherence::Channel`",
    ),
    useful(
        "client|caching",
        Named::Nothing,
        "commands that the server need not track",
        "the server also tracks the keys of policies without L1, and keys that are only written or invalidated",
    ),
    useful(
        "client|setinfo",
        Named::Nothing,
        "the client library's name in `CLIENT LIST`",
        "nothing",
    ),
    useful(
        "select",
        Named::Nothing,
        "a database other than 0",
        "database 0 alone",
    ),
    useful(
        "cluster|slots",
        Named::Nothing,
        "whether the server is a cluster, and which master has which slots",
        "the server is used as a standalone one",
    ),
    useful(
        "cluster|nodes",
        Named::Nothing,
        "clears in a cluster: whether slots are moving",
        "in a cluster, clears fail",
    ),
    useful(
        "cluster|info",
        Named::Nothing,
        "whether a cluster goes on without a master that is gone",
        "a cluster that is down is noticed when it refuses a command",
    ),
    useful(
        "role",
        Named::Nothing,
        "whether the server is a master",
        "a replica is found when it refuses a write",
    ),
    useful(
        "info",
        Named::Nothing,
        "whether an address still leads to the same server, and how many names it tracks",
        "after a failover, a large value may come from another server than the lane's, and until all lanes have reconnected, a read may find what another lane has invalidated by a tag or a clear; after each lost connection, what was replaced since the server's mark is invalidated again",
    ),
    useful(
        "dbsize",
        Named::Nothing,
        "whether a server that has lost all its data is empty",
        "after it was emptied, everything that was replaced lately is invalidated again",
    ),
    useful(
        "config|get",
        Named::Nothing,
        "advice about `maxmemory` and `tracking-table-max-keys`",
        "no advice",
    ),
    useful(
        "script|load",
        Named::Nothing,
        "scripts, where `EVAL` was refused since the store connected",
        "nothing",
    ),
];

/// The table in Markdown, as the guide shows it.
pub fn rights_in_markdown() -> String {
    let mut table =
        String::from("| command | sent for | names | without it |\n| --- | --- | --- | --- |\n");
    for right in RIGHTS {
        let command = right.command.to_uppercase().replace('|', " ");
        let on = match right.on {
            Named::Nothing => "",
            Named::Keys => "keys",
            Named::Channel => "channel",
        };
        let without = right.without.unwrap_or("**needed**");
        // Writing to a text does not fail.
        let _ = writeln!(
            table,
            "| `{command}` | {} | {on} | {without} |",
            right.purpose
        );
    }
    table
}

/// Tries what a store needs, on every server of a session and under each of these prefixes of
/// values. Each server has this time to answer.
///
/// # Errors
/// [`StoreError::Unfit`], which names all that is missing.
pub(crate) async fn check(
    session: &Session,
    prefixes: &[String],
    address: &str,
    limit: Duration,
) -> Result<(), StoreError> {
    let mut missing = Missing::default();
    let names = names(session, prefixes);
    // All at once: they cost one round trip together.
    let tried = names
        .iter()
        .map(|(name, _)| try_name(session, name, address, limit));
    for ((_, pattern), tried) in names.iter().zip(join_all(tried).await) {
        for (right, refusal) in tried? {
            let channel = session.publisher().channel();
            missing
                .note(right, &refusal, pattern, channel)
                .map_err(|problem| unfit(address, problem))?;
        }
    }
    match missing.problem() {
        Some(problem) => Err(unfit(address, &problem)),
        None => Ok(()),
    }
}

/// Tries each right on a name, and returns what the server refuses.
async fn try_name(
    session: &Session,
    name: &str,
    address: &str,
    limit: Duration,
) -> Result<Vec<(&'static Right, RedisError)>, StoreError> {
    // A master that is left out says nothing.
    let Some(mut on) = session.link(name).map(|link| link.target.clone()) else {
        return Ok(Vec::new());
    };
    let (rights, commands) = trials(name, on.publisher());
    let asked = on
        .connection
        .send_packed_commands(&commands, 0, rights.len())
        .await;
    let replies = asked.map_err(|error| describe(error, address, limit, name))?;
    let refused = |(right, reply): (_, Value)| Some((right, reply.extract_error().err()?));
    Ok(rights
        .into_iter()
        .zip(replies)
        .filter_map(refused)
        .collect())
}

fn unfit(address: &str, problem: &str) -> StoreError {
    StoreError::Unfit {
        address: address.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Names to try, each with the pattern that it stands for. Nothing is written under them.
fn names(session: &Session, prefixes: &[String]) -> Vec<(String, String)> {
    let names = session.names();
    let own = names.pattern();
    let token = Token::new();
    let values = prefixes.iter().flat_map(|prefix| {
        let value = format!("{prefix}:{}", token.as_str());
        let lease = names.lease(&value);
        [(value, format!("{prefix}:*")), (lease, own.clone())]
    });
    let probes = session.links().iter().map(|link| link.probe.name.clone());
    probes
        .chain([names.tag(token.as_str())])
        .map(|name| (name, own.clone()))
        .chain(values)
        .collect()
}

/// A command for each right that can be tried, none of which changes anything.
fn trials(name: &str, publisher: &Publisher) -> (Vec<&'static Right>, Pipeline) {
    let mut commands = Pipeline::new();
    let mut rights = Vec::new();
    for right in RIGHTS {
        let on_name = |command: &str| cmd(command).arg(name).take();
        let trial: Cmd = match right.command {
            "ping" | "time" => cmd(right.command),
            "get" | "strlen" | "exists" | "pttl" | "mget" | "del" | "unlink" => {
                on_name(right.command)
            }
            "getrange" => on_name("getrange").arg(0).arg(0).take(),
            "pexpire" => on_name("pexpire").arg(1).take(),
            // Of a name that nobody has: it is not set.
            "set" => on_name("set").arg("").arg("XX").arg("PX").arg(1).take(),
            "eval" => cmd("eval").arg("return 1").arg(1).arg(name).take(),
            // An unknown script: the rights are asked first.
            "evalsha" => cmd("evalsha").arg("0".repeat(40)).arg(1).arg(name).take(),
            "scan" => {
                let scan = cmd("scan").arg(0).arg("MATCH").arg(name).take();
                scan.clone().arg("COUNT").arg(1).take()
            }
            // P26 scripts-publish: a process that the server does not tell must tell others. This
            // is a sign of life of this process, which all others ignore.
            "publish" if !publisher.is_silent() => {
                let publish = cmd("publish").arg(publisher.channel()).take();
                publish.clone().arg(publisher.beat_message(0)).take()
            }
            _ => continue,
        };
        commands.add_command(trial);
        rights.push(right);
    }
    (rights, commands)
}

fn is_unknown_command(error: &RedisError) -> bool {
    let says_so = |detail: &str| detail.to_ascii_lowercase().starts_with("unknown command");
    error.detail().is_some_and(says_so)
}

/// The rights that a user lacks.
#[derive(Default)]
pub(crate) struct Missing {
    commands: Vec<&'static str>,
    patterns: Vec<String>,
    channel: Option<String>,
}

impl Missing {
    /// Notes a right that a server refuses.
    ///
    /// # Errors
    /// The problem of a server that is of no use to any user.
    pub(crate) fn note(
        &mut self,
        right: &Right,
        refusal: &RedisError,
        pattern: &str,
        channel: &str,
    ) -> Result<(), &'static str> {
        match refusal.code() {
            Some("READONLY") => return Err(IS_REPLICA),
            Some("NOPERM") => self.add(right, refusal, pattern, channel),
            _ if right.without.is_none() && is_unknown_command(refusal) => {
                self.commands.push(right.command);
            }
            // Nothing that concerns the user's rights: it may pass.
            _ => {}
        }
        Ok(())
    }

    fn add(&mut self, right: &Right, refusal: &RedisError, pattern: &str, channel: &str) {
        let said = refusal.detail().unwrap_or_default();
        if said.contains("channel") {
            self.channel = Some(channel.to_owned());
        } else if said.contains("a key") || said.contains("the keys") {
            self.patterns.push(pattern.to_owned());
        } else {
            self.commands.push(right.command);
        }
    }

    /// The words of an error that name it all; `None` if nothing is missing.
    pub(crate) fn problem(mut self) -> Option<String> {
        let mut parts = Vec::new();
        self.commands.sort_unstable();
        self.commands.dedup();
        if !self.commands.is_empty() {
            let commands: Vec<_> = self
                .commands
                .iter()
                .map(|word| word.to_uppercase())
                .collect();
            parts.push(format!("the commands {}", commands.join(", ")));
        }
        self.patterns.sort_unstable();
        self.patterns.dedup();
        if !self.patterns.is_empty() {
            parts.push(format!("the keys {}", self.patterns.join(", ")));
        }
        parts.extend(self.channel.map(|channel| format!("the channel {channel}")));
        let missing = parts.join("; ");
        (!missing.is_empty()).then(|| format!("the user may not use {missing}"))
    }
}

#[cfg(test)]
mod tests {
    use larder_testkit::RedisServer;

    use super::*;
    use crate::{config::RedisConfig, connection::dialer::session};

    #[tokio::test]
    async fn server_that_does_not_answer_the_trial_is_given_the_time_of_a_command() {
        let server = RedisServer::start().await.unwrap();
        let limit = Duration::from_millis(300);
        let config = RedisConfig::new(server.url()).command_timeout(limit);
        let session = session(&config).await;
        check(&session, &[], "here", limit).await.unwrap();
        server.pause().unwrap();
        let failed = check(&session, &[], "here", limit).await.unwrap_err();
        assert_eq!(
            failed.to_string(),
            "the remote store at here did not answer within 300ms"
        );
        server.resume().unwrap();
    }
}
