//! The Lua scripts, each of which is one atomic step of the protocol. Their headers say what they
//! read, write and reply.

use std::{sync::LazyLock, time::Duration};

use deadpool_redis::redis::{
    Cmd, ErrorKind, Pipeline, RedisResult, Script, ServerErrorKind, Value, from_redis_value,
};
use larder_core::{Digest, Replacing, Stored, Token, WriteClaim};

use crate::command::{
    reply::{LARGE_VALUE, bytes, pttl, unexpected},
    target::Target,
};

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));
    };
}
script!(CLAIM, "scripts/claim.lua");
script!(BEGIN_WRITE, "scripts/begin_write.lua");
script!(RENEW, "scripts/renew.lua");
script!(COMMIT, "scripts/commit.lua");
script!(HOLDS, "scripts/holds.lua");
script!(RELEASE, "scripts/release.lua");
script!(INVALIDATE, "scripts/invalidate.lua");
script!(TAG_EPOCH, "scripts/tag_epoch.lua");
script!(PIN_TAGS, "scripts/pin_tags.lua");
script!(INVALIDATE_TAG, "scripts/invalidate_tag.lua");

/// The answer of the script `claim`.
pub(crate) enum ClaimReply {
    Hit(Stored),
    /// There is a value, too large to travel over the lane.
    LargeHit,
    Leased,
    Busy(Duration),
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
) -> RedisResult<ClaimReply> {
    let mut call = CLAIM.key(key);
    call.key(on.names().lease(key))
        .arg(token.as_str())
        .arg(millis(lease));
    call.arg(digest(replacing)).arg(LARGE_VALUE);
    match call.invoke_async(&mut on.connection).await? {
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
    let mut call = BEGIN_WRITE.key(key);
    call.key(on.names().lease(key))
        .arg(token.as_str())
        .arg(millis(lease))
        .arg(on.publisher());
    match call.invoke_async(&mut on.connection).await? {
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
    let mut call = RENEW.key(on.names().lease(key));
    call.arg(token.as_str())
        .arg(millis(lease))
        .invoke_async(&mut on.connection)
        .await
}

pub(crate) async fn commit(
    on: Target,
    key: &str,
    token: &Token,
    value: &[u8],
    ttl: Duration,
    replacing: Replacing<'_>,
) -> RedisResult<bool> {
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
) -> RedisResult<bool> {
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
) -> RedisResult<bool> {
    // Written out, because a script's invocation would copy the value once more.
    const WORDS: usize = 400;
    let mut script = Cmd::with_capacity(11, commit.value.len() + 3 * key.len() + WORDS);
    script
        .arg("EVALSHA")
        .arg(COMMIT.get_hash())
        .arg(2)
        .arg(key)
        .arg(on.names().lease(key));
    script
        .arg(token.as_str())
        .arg(commit.value)
        .arg(commit.ttl_ms)
        .arg(commit.digest)
        .arg(commit.how);
    script.arg(on.publisher());
    let mut both = Pipeline::with_capacity(2);
    // P4 l1-read-from-l2, P17 pushes-before-replies: the server sends the push for the script after
    // the script's own reply, and before the reply to whatever follows.
    both.add_command(script).cmd("PING");
    let mut done = first_reply(&mut on, &both).await;
    if done
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
    {
        COMMIT.load_async(&mut on.connection).await?;
        done = first_reply(&mut on, &both).await;
    }
    Ok(from_redis_value(done?)?)
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
    HOLDS
        .key(key)
        .arg(digest.as_str())
        .invoke_async(&mut on.connection)
        .await
}

pub(crate) async fn release(mut on: Target, key: &str, token: &Token) -> RedisResult<bool> {
    let mut call = RELEASE.key(on.names().lease(key));
    call.arg(token.as_str())
        .arg(on.publisher())
        .invoke_async(&mut on.connection)
        .await
}

pub(crate) async fn invalidate(mut on: Target, key: &str, own: Option<&Token>) -> RedisResult<()> {
    let mut call = INVALIDATE.key(key);
    call.key(on.names().lease(key))
        .arg(own.map_or("", Token::as_str))
        .arg(on.publisher());
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn tag_epoch(mut on: Target) -> RedisResult<u64> {
    let call = TAG_EPOCH.key(on.names().epoch());
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn pin_tags(
    mut on: Target,
    tags: &[&str],
    epoch: u64,
    ttl: Duration,
) -> RedisResult<Vec<Option<u64>>> {
    let mut call = PIN_TAGS.key(on.names().epoch());
    tags.iter().for_each(|tag| {
        call.key(on.names().tag(tag));
    });
    call.arg(epoch)
        .arg(millis(ttl))
        .invoke_async(&mut on.connection)
        .await
}

pub(crate) async fn invalidate_tag(mut on: Target, tag: &str) -> RedisResult<()> {
    let mut call = INVALIDATE_TAG.key(on.names().epoch());
    call.key(on.names().tag(tag))
        .arg(on.publisher())
        .invoke_async(&mut on.connection)
        .await
}
