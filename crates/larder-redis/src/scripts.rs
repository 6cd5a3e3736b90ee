use std::sync::LazyLock;

use deadpool_redis::redis::{
    Cmd, ErrorKind, Pipeline, RedisResult, Script, ServerErrorKind, Value, from_redis_value,
};
use larder_core::{Digest, Replacing, Token};

use crate::{
    bulk::LARGE,
    keys::{ORDER, lease_of, tag_of},
    store::unexpected,
    wire::Wire,
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

fn digest(replacing: Replacing<'_>) -> &str {
    match replacing {
        Replacing::Nothing => "",
        Replacing::Value(seen) | Replacing::Ended(seen) => seen.as_str(),
    }
}

pub(crate) async fn claim(
    mut on: Wire,
    key: &str,
    token: &Token,
    lease_ms: u64,
    replacing: Replacing<'_>,
) -> RedisResult<Value> {
    let mut call = CLAIM.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(lease_ms).arg(digest(replacing)).arg(LARGE);
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn begin_write(mut on: Wire, key: &str, token: &Token, lease_ms: u64) -> RedisResult<Value> {
    let mut call = BEGIN_WRITE.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(lease_ms).arg(&*on.voice);
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn renew(mut on: Wire, key: &str, token: &Token, lease_ms: u64) -> RedisResult<bool> {
    let mut call = RENEW.key(lease_of(key));
    call.arg(token.as_str()).arg(lease_ms).invoke_async(&mut on.connection).await
}

pub(crate) async fn commit(
    mut on: Wire,
    key: &str,
    token: &Token,
    value: &[u8],
    ttl_ms: u64,
    replacing: Replacing<'_>,
) -> RedisResult<bool> {
    let how = if matches!(replacing, Replacing::Ended(_)) { "ended" } else { "exact" };
    run_commit(&mut on, key, token, (value, ttl_ms, digest(replacing), how)).await
}

/// Runs the script, and returns when the push for what it does, if there is one, has been handled.
async fn run_commit(
    on: &mut Wire,
    key: &str,
    token: &Token,
    (value, ttl_ms, digest, how): (&[u8], u64, &str, &str),
) -> RedisResult<bool> {
    // Written out, because a script's invocation would copy the value once more.
    const WORDS: usize = 400;
    let mut script = Cmd::with_capacity(11, value.len() + 3 * key.len() + WORDS);
    script.arg("EVALSHA").arg(COMMIT.get_hash()).arg(2).arg(key).arg(lease_of(key));
    script.arg(token.as_str()).arg(value).arg(ttl_ms).arg(digest).arg(how).arg(&*on.voice);
    let mut both = Pipeline::with_capacity(2);
    // P4 l1-read-from-l2, P17 pushes-before-replies: the push for the script comes after its own reply, and before that to whatever follows.
    both.add_command(script).cmd("PING");
    let mut done = first_reply(on, &both).await;
    if done.as_ref().is_err_and(|error| error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)) {
        COMMIT.load_async(&mut on.connection).await?;
        done = first_reply(on, &both).await;
    }
    Ok(from_redis_value(done?)?)
}

async fn first_reply(on: &mut Wire, commands: &Pipeline) -> RedisResult<Value> {
    let replies = on.connection.send_packed_commands(commands, 0, 2).await?;
    replies.into_iter().next().ok_or_else(unexpected)?.extract_error()
}

pub(crate) async fn touch(
    mut on: Wire,
    key: &str,
    token: &Token,
    kept: &Digest,
    ttl_ms: u64,
) -> RedisResult<bool> {
    run_commit(&mut on, key, token, (b"", ttl_ms, kept.as_str(), "touch")).await
}

pub(crate) async fn holds(mut on: Wire, key: &str, digest: &Digest) -> RedisResult<bool> {
    HOLDS.key(key).arg(digest.as_str()).invoke_async(&mut on.connection).await
}

pub(crate) async fn release(mut on: Wire, key: &str, token: &Token) -> RedisResult<bool> {
    let mut call = RELEASE.key(lease_of(key));
    call.arg(token.as_str()).arg(&*on.voice).invoke_async(&mut on.connection).await
}

pub(crate) async fn invalidate(mut on: Wire, key: &str, own: Option<&Token>) -> RedisResult<()> {
    let mut call = INVALIDATE.key(key);
    call.key(lease_of(key)).arg(own.map_or("", Token::as_str)).arg(&*on.voice);
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn tag_epoch(mut on: Wire) -> RedisResult<u64> {
    TAG_EPOCH.key(ORDER).invoke_async(&mut on.connection).await
}

pub(crate) async fn pin_tags(
    mut on: Wire,
    tags: &[&str],
    order: u64,
    ttl_ms: u64,
) -> RedisResult<Vec<Option<u64>>> {
    let mut call = PIN_TAGS.key(ORDER);
    tags.iter().for_each(|tag| {
        call.key(tag_of(tag));
    });
    call.arg(order).arg(ttl_ms).invoke_async(&mut on.connection).await
}

pub(crate) async fn invalidate_tag(mut on: Wire, tag: &str) -> RedisResult<()> {
    let mut call = INVALIDATE_TAG.key(ORDER);
    call.key(tag_of(tag)).arg(&*on.voice).invoke_async(&mut on.connection).await
}
