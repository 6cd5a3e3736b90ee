//! The Lua scripts, each of which is one atomic step of the protocol. Their headers say what they
//! read, write and reply.

use std::{
    sync::{LazyLock, atomic::Ordering},
    time::Duration,
};

use deadpool_redis::redis::{
    self, Arg, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisResult, ServerErrorKind, Value, cmd,
    from_redis_value,
};
use larder_core::{Digest, Replacing, Stored, Token, Track, WriteClaim};
use tracing::warn;

use crate::{
    command::{
        reply::{LARGE_VALUE, bytes, pttl, unexpected},
        target::Target,
        tracking::{Tracks, send_untracked},
    },
    error::is_denied,
};

/// A script as a server runs it.
struct Script {
    /// With the functions that it uses before it.
    source: &'static str,
    hash: String,
}

macro_rules! script {
    ($name:ident, $($file:literal),+) => {
        static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+)));
    };
}
script!(CLAIM, "own", "lease", "claim");
script!(LOOK, "look");
script!(BEGIN_WRITE, "own", "lease", "tell", "begin_write");
script!(RENEW, "own", "renew");
script!(COMMIT, "own", "tell", "commit");
script!(HOLDS, "holds");
script!(RELEASE, "own", "tell", "release");
script!(REMOVE_OVERSIZED, "tell", "remove_oversized");
script!(INVALIDATE, "own", "lease", "tell", "invalidate");
script!(TAG_EPOCH, "own", "tag_epoch");
script!(PIN_TAGS, "own", "tell", "pin_tags");
script!(INVALIDATE_TAG, "own", "tell", "invalidate_tag");

impl Script {
    fn new(source: &'static str) -> Self {
        let hash = redis::Script::new(source).get_hash().to_owned();
        Self { source, hash }
    }

    /// A call of the script with these keys, to which `arguments` are added that have `size` bytes
    /// together, as far as they are long.
    fn call(&self, keys: &[&str], arguments: usize, size: usize) -> Cmd {
        /// The bytes that the words and numbers around a key or argument need at most.
        const WORDS: usize = 400;
        let size = keys.iter().map(|key| key.len()).sum::<usize>() + size + WORDS;
        let mut call = Cmd::with_capacity(3 + keys.len() + arguments, size);
        call.arg("EVALSHA").arg(&self.hash).arg(keys.len());
        keys.iter().for_each(|key| {
            call.arg(*key);
        });
        call
    }

    /// Sends a call, and reads the reply.
    async fn run<T: FromRedisValue>(&self, on: &mut Target, call: &Cmd) -> RedisResult<T> {
        let send = async |on: &mut Target, call: &Cmd| call.query_async(&mut on.connection).await;
        self.run_by(send, on, call).await
    }

    /// Like [`run`](Self::run), and the server tracks nothing that the script reads, if the
    /// connection can exempt it.
    async fn run_untracked<T: FromRedisValue>(
        &self,
        on: &mut Target,
        call: &Cmd,
    ) -> RedisResult<T> {
        if !on.exempts {
            return self.run(on, call).await; // without a copy, which may be large
        }
        let send = async |on: &mut Target, call: &Cmd| {
            let mut alone = Pipeline::with_capacity(1);
            alone.add_command(call.clone());
            let replies = send_untracked(on, alone).await?;
            let reply = replies.into_iter().next().ok_or_else(unexpected)?;
            Ok(from_redis_value(reply.extract_error()?)?)
        };
        self.run_by(send, on, call).await
    }

    async fn run_by<T>(
        &self,
        send: impl AsyncFn(&mut Target, &Cmd) -> RedisResult<T>,
        on: &mut Target,
        call: &Cmd,
    ) -> RedisResult<T> {
        match send(on, call).await {
            Err(error) if is_unknown_script(&error) => {
                match send(on, &self.whole(call)).await {
                    // A user that may not send a script may still be allowed to load it.
                    Err(denied) if is_denied(&denied) => {
                        self.load(on).await.map_err(|_also| denied)?;
                        send(on, call).await
                    }
                    sent => sent,
                }
            }
            sent => sent,
        }
    }

    /// Makes a call with the source in the place of its hash. The server knows the script after
    /// that, and need not allow `SCRIPT`.
    fn whole(&self, call: &Cmd) -> Cmd {
        let mut whole = cmd("EVAL");
        whole.arg(self.source);
        for argument in call.args_iter().skip(2) {
            if let Arg::Simple(bytes) = argument {
                whole.arg(bytes);
            }
        }
        whole
    }

    async fn load(&self, on: &mut Target) -> RedisResult<()> {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.source);
        load.exec_async(&mut on.connection).await
    }
}

pub(crate) fn is_unknown_script(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// The answer of the script `claim`.
#[derive(Debug)]
pub(crate) enum ClaimReply {
    Hit(Stored),
    /// There is a value, too large to travel over the lane.
    LargeHit,
    Leased,
    Busy(Duration),
}

/// The answer of the script `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitReply {
    Refused,
    /// A load's value is stored.
    Loaded,
    /// A writer's value is stored.
    Written,
}

/// The arguments of the script `commit` that are about the value.
struct Commit<'a> {
    value: &'a [u8],
    ttl_ms: u64,
    /// Which value may be replaced, and how exactly: see the script's header.
    digest: &'a str,
    how: &'static str,
}

/// A duration in whole milliseconds, at least one: Redis takes no zero.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

fn digest(replacing: Replacing<'_>) -> &str {
    match replacing {
        Replacing::Nothing => "",
        Replacing::Value(seen) | Replacing::Ended(seen) => seen.as_str(),
    }
}

pub(crate) async fn claim(
    mut on: Target,
    key: &str,
    token: &Token,
    lease: Duration,
    replacing: Replacing<'_>,
    tracks: Tracks,
) -> RedisResult<ClaimReply> {
    let lease_name = on.names().lease(key);
    let mut call = CLAIM.call(&[key, &lease_name], 5, 0);
    call.arg(token.as_str())
        .arg(millis(lease))
        .arg(digest(replacing))
        .arg(LARGE_VALUE)
        .arg(if tracks == Tracks::All {
            "GET"
        } else {
            "GETEX"
        });
    if tracks == Tracks::None && on.exempts {
        match claim_reply(CLAIM.run_untracked(&mut on, &call).await?)? {
            // P14 no-wait-for-expiry-push: again, so that the lane tracks the lease.
            ClaimReply::Busy(_) => {}
            reply => return Ok(reply),
        }
    }
    claim_reply(CLAIM.run(&mut on, &call).await?)
}

/// Reads the first bytes of a value, at most `most`. The server tracks the key only if there is a
/// value.
pub(crate) async fn look(mut on: Target, key: &str, most: usize) -> RedisResult<Value> {
    LOOK.run(&mut on, &look_call(key, most)).await
}

/// The call of [`look`].
pub(crate) fn look_call(key: &str, most: usize) -> Cmd {
    let mut call = LOOK.call(&[key], 1, 0);
    call.arg(most);
    call
}

/// Reads the reply of the script `claim`.
pub(crate) fn claim_reply(reply: Value) -> RedisResult<ClaimReply> {
    match reply {
        Value::Okay => Ok(ClaimReply::Leased),
        Value::Array(found) if found.is_empty() => Ok(ClaimReply::LargeHit),
        Value::Array(found) => {
            let [value, ttl] = <[Value; 2]>::try_from(found).map_err(|_| unexpected())?;
            let value = bytes(value)?.ok_or_else(unexpected)?;
            Ok(ClaimReply::Hit(Stored {
                value,
                ttl: pttl(ttl)?,
            }))
        }
        busy => Ok(ClaimReply::Busy(pttl(busy)?.unwrap_or_default())),
    }
}

pub(crate) async fn begin_write(
    mut on: Target,
    key: &str,
    token: &Token,
    lease: Duration,
) -> RedisResult<WriteClaim> {
    let lease_name = on.names().lease(key);
    let mut call = BEGIN_WRITE.call(&[key, &lease_name], 4, 0);
    call.arg(token.as_str())
        .arg(millis(lease))
        .arg(on.publisher());
    // P33 only-kept-is-tracked
    match write_claim(BEGIN_WRITE.run_untracked(&mut on, &call).await?)? {
        // P14 no-wait-for-expiry-push: again, so that the lane tracks the lease.
        WriteClaim::Busy(_) if on.exempts => write_claim(BEGIN_WRITE.run(&mut on, &call).await?),
        reply => Ok(reply),
    }
}

/// Reads the reply of the script `begin_write`.
pub(crate) fn write_claim(reply: Value) -> RedisResult<WriteClaim> {
    match reply {
        Value::Okay => Ok(WriteClaim::Leased),
        busy => Ok(WriteClaim::Busy(pttl(busy)?.unwrap_or_default())),
    }
}

pub(crate) async fn renew(
    mut on: Target,
    key: &str,
    token: &Token,
    lease: Duration,
) -> RedisResult<bool> {
    let mut call = RENEW.call(&[&on.names().lease(key)], 2, 0);
    call.arg(token.as_str()).arg(millis(lease));
    RENEW.run(&mut on, &call).await
}

pub(crate) async fn commit(
    on: Target,
    key: &str,
    token: &Token,
    value: &[u8],
    ttl: Duration,
    replacing: Replacing<'_>,
    track: Track,
) -> RedisResult<CommitReply> {
    let how = if matches!(replacing, Replacing::Ended(_)) {
        "ended"
    } else {
        "exact"
    };
    run_commit(
        on,
        key,
        token,
        Commit {
            value,
            ttl_ms: millis(ttl),
            digest: digest(replacing),
            how,
        },
        track,
    )
    .await
}

/// Prolongs the life of a value; a `ttl` of zero removes it.
pub(crate) async fn touch(
    on: Target,
    key: &str,
    token: &Token,
    kept: &Digest,
    ttl: Duration,
    track: Track,
) -> RedisResult<CommitReply> {
    let ttl_ms = if ttl.is_zero() { 0 } else { millis(ttl) };
    run_commit(
        on,
        key,
        token,
        Commit {
            value: b"",
            ttl_ms,
            digest: kept.as_str(),
            how: "touch",
        },
        track,
    )
    .await
}

/// Runs the script, and returns once the push for what it changed, if there is one, has been
/// handled.
async fn run_commit(
    mut on: Target,
    key: &str,
    token: &Token,
    commit: Commit<'_>,
    track: Track,
) -> RedisResult<CommitReply> {
    let lease_name = on.names().lease(key);
    let mut call = COMMIT.call(&[key, &lease_name], 7, commit.value.len());
    call.arg(token.as_str())
        .arg(commit.value)
        .arg(commit.ttl_ms)
        .arg(commit.digest)
        .arg(commit.how)
        .arg(on.publisher());
    if track == Track::Nothing {
        return commit_reply(COMMIT.run_untracked(&mut on, &call).await?);
    }
    let both = with_ping(call);
    let sent = first_reply(&mut on, &both).await;
    let done = match sent {
        Err(error) if is_unknown_script(&error) => {
            let whole = both.cmd_iter().next().map(|call| COMMIT.whole(call));
            match first_reply(&mut on, &with_ping(whole.unwrap_or_default())).await {
                Err(denied) if is_denied(&denied) => {
                    COMMIT.load(&mut on).await.map_err(|_also| denied)?;
                    first_reply(&mut on, &both).await
                }
                sent => sent,
            }
        }
        sent => sent,
    };
    commit_reply(done?)
}

/// Reads the reply of the script `commit`.
pub(crate) fn commit_reply(reply: Value) -> RedisResult<CommitReply> {
    Ok(match from_redis_value::<i64>(reply)? {
        0 => CommitReply::Refused,
        1 => CommitReply::Loaded,
        _ => CommitReply::Written,
    })
}

/// A call and a `PING` in one pipeline.
// P4 l1-read-from-l2, P17 pushes-before-replies: the server sends the push for the script after the
// script's own reply, and before the reply to whatever follows.
fn with_ping(call: Cmd) -> Pipeline {
    let mut both = Pipeline::with_capacity(2);
    both.add_command(call).cmd("PING");
    both
}

async fn first_reply(on: &mut Target, commands: &Pipeline) -> RedisResult<Value> {
    let replies = on.connection.send_packed_commands(commands, 0, 2).await?;
    replies
        .into_iter()
        .next()
        .ok_or_else(unexpected)?
        .extract_error()
}

pub(crate) async fn holds(mut on: Target, key: &str, digest: &Digest) -> RedisResult<bool> {
    let mut call = HOLDS.call(&[key], 1, 0);
    call.arg(digest.as_str());
    HOLDS.run(&mut on, &call).await
}

pub(crate) async fn release(mut on: Target, key: &str, token: &Token) -> RedisResult<bool> {
    let mut call = RELEASE.call(&[&on.names().lease(key)], 3, 0);
    call.arg(token.as_str()).arg(on.publisher());
    RELEASE.run(&mut on, &call).await
}

pub(crate) async fn invalidate(mut on: Target, key: &str, own: Option<&Token>) -> RedisResult<()> {
    let lease_name = on.names().lease(key);
    let mut call = INVALIDATE.call(&[key, &lease_name], 3, 0);
    call.arg(own.map_or("", Token::as_str)).arg(on.publisher());
    INVALIDATE.run_untracked(&mut on, &call).await // P33 only-kept-is-tracked
}

/// Removes a value of more bytes than the limit.
pub(crate) async fn remove_oversized(mut on: Target, key: &str, limit: usize) -> RedisResult<()> {
    let mut call = REMOVE_OVERSIZED.call(&[key], 3, 0);
    call.arg(limit).arg(on.publisher());
    let removed: bool = REMOVE_OVERSIZED.run(&mut on, &call).await?;
    // Relaxed: it orders nothing.
    if removed && !on.scope.oversized_reported.swap(true, Ordering::Relaxed) {
        warn!(event = "oversized_value", %key, limit,
            "removed a value that is larger than any that is kept; further ones are not logged");
    }
    Ok(())
}

pub(crate) async fn tag_epoch(mut on: Target) -> RedisResult<u64> {
    let call = TAG_EPOCH.call(&[on.names().epoch()], 0, 0);
    TAG_EPOCH.run(&mut on, &call).await
}

pub(crate) async fn pin_tags(
    mut on: Target,
    tags: &[&str],
    epoch: u64,
    ttl: Duration,
) -> RedisResult<Vec<Option<u64>>> {
    let names: Vec<String> = tags.iter().map(|tag| on.names().tag(tag)).collect();
    let keys: Vec<&str> = [on.names().epoch()]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let mut call = PIN_TAGS.call(&keys, 4, 0);
    call.arg(epoch).arg(millis(ttl)).arg(on.publisher());
    PIN_TAGS.run(&mut on, &call).await
}

pub(crate) async fn invalidate_tag(mut on: Target, tag: &str) -> RedisResult<()> {
    let mut call = INVALIDATE_TAG.call(&[on.names().epoch(), &on.names().tag(tag)], 2, 0);
    call.arg(on.publisher());
    INVALIDATE_TAG.run(&mut on, &call).await
}
