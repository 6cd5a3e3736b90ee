use std::sync::LazyLock;

use deadpool_redis::redis::{RedisResult, Script, Value};
use larder_core::{Digest, Replacing, Token};

use crate::{
    keys::{ORDER, lease_of, tag_of},
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
script!(READ_ORDER, "scripts/order.lua");
script!(HOLD_TAGS, "scripts/hold_tags.lua");
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
    call.key(lease_of(key)).arg(token.as_str()).arg(lease_ms).arg(digest(replacing));
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn begin_write(mut on: Wire, key: &str, token: &Token, lease_ms: u64) -> RedisResult<Value> {
    let mut call = BEGIN_WRITE.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(lease_ms).arg(on.voice);
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
    let mut call = COMMIT.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(value).arg(ttl_ms);
    call.arg(digest(replacing)).arg(how).arg(on.voice);
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn touch(
    mut on: Wire,
    key: &str,
    token: &Token,
    kept: &Digest,
    ttl_ms: u64,
) -> RedisResult<bool> {
    let mut call = COMMIT.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg("").arg(ttl_ms);
    call.arg(kept.as_str()).arg("touch").arg(on.voice);
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn holds(mut on: Wire, key: &str, digest: &Digest) -> RedisResult<bool> {
    HOLDS.key(key).arg(digest.as_str()).invoke_async(&mut on.connection).await
}

pub(crate) async fn release(mut on: Wire, key: &str, token: &Token) -> RedisResult<bool> {
    let mut call = RELEASE.key(lease_of(key));
    call.arg(token.as_str()).arg(on.voice).invoke_async(&mut on.connection).await
}

pub(crate) async fn invalidate(mut on: Wire, key: &str, own: Option<&Token>) -> RedisResult<()> {
    let mut call = INVALIDATE.key(key);
    call.key(lease_of(key)).arg(own.map_or("", Token::as_str)).arg(on.voice);
    call.invoke_async(&mut on.connection).await
}

pub(crate) async fn order(mut on: Wire) -> RedisResult<u64> {
    READ_ORDER.key(ORDER).invoke_async(&mut on.connection).await
}

pub(crate) async fn hold_tags(
    mut on: Wire,
    tags: &[&str],
    order: u64,
    ttl_ms: u64,
) -> RedisResult<Vec<Option<u64>>> {
    let mut call = HOLD_TAGS.key(ORDER);
    tags.iter().for_each(|tag| {
        call.key(tag_of(tag));
    });
    call.arg(order).arg(ttl_ms).invoke_async(&mut on.connection).await
}

pub(crate) async fn invalidate_tag(mut on: Wire, tag: &str) -> RedisResult<()> {
    let mut call = INVALIDATE_TAG.key(ORDER);
    call.key(tag_of(tag)).arg(on.voice).invoke_async(&mut on.connection).await
}
