use std::sync::LazyLock;

use deadpool_redis::redis::{RedisResult, Script, Value, aio::MultiplexedConnection};
use larder_core::{Replacing, Token};

use crate::keys::lease_of;

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!($file)));
    };
}
script!(CLAIM, "scripts/claim.lua");
script!(BEGIN_WRITE, "scripts/begin_write.lua");
script!(RENEW, "scripts/renew.lua");
script!(COMMIT, "scripts/commit.lua");
script!(RELEASE, "scripts/release.lua");
script!(INVALIDATE, "scripts/invalidate.lua");

fn digest(replacing: Replacing<'_>) -> &str {
    replacing.map_or("", larder_core::Digest::as_str)
}

type Connection = MultiplexedConnection;

pub(crate) async fn claim(
    mut on: Connection,
    key: &str,
    token: &Token,
    lease_ms: u64,
    replacing: Replacing<'_>,
) -> RedisResult<Value> {
    let mut call = CLAIM.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(lease_ms).arg(digest(replacing));
    call.invoke_async(&mut on).await
}

pub(crate) async fn begin_write(
    mut on: Connection,
    key: &str,
    token: &Token,
    lease_ms: u64,
) -> RedisResult<Value> {
    let mut call = BEGIN_WRITE.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(lease_ms).invoke_async(&mut on).await
}

pub(crate) async fn renew(mut on: Connection, key: &str, token: &Token, lease_ms: u64) -> RedisResult<bool> {
    let mut call = RENEW.key(lease_of(key));
    call.arg(token.as_str()).arg(lease_ms).invoke_async(&mut on).await
}

pub(crate) async fn commit(
    mut on: Connection,
    key: &str,
    token: &Token,
    value: &[u8],
    ttl_ms: u64,
    replacing: Replacing<'_>,
) -> RedisResult<bool> {
    let mut call = COMMIT.key(key);
    call.key(lease_of(key)).arg(token.as_str()).arg(value).arg(ttl_ms).arg(digest(replacing));
    call.invoke_async(&mut on).await
}

pub(crate) async fn release(mut on: Connection, key: &str, token: &Token) -> RedisResult<bool> {
    let mut call = RELEASE.key(lease_of(key));
    call.arg(token.as_str()).invoke_async(&mut on).await
}

pub(crate) async fn invalidate(mut on: Connection, key: &str, own: Option<&Token>) -> RedisResult<()> {
    let mut call = INVALIDATE.key(key);
    call.key(lease_of(key)).arg(own.map_or("", Token::as_str)).invoke_async(&mut on).await
}
