use deadpool_redis::redis::{RedisResult, aio::MultiplexedConnection, cmd};

use crate::{
    keys::{LEASES, key_of, pattern},
    scripts,
};

/// How many keys the server looks at for each reply.
const STEP: usize = 512;

/// Invalidates every key that begins with `prefix`: first the leases, so that no load which began before can commit,
/// then the values. Each step is a command of its own, so that other callers of the lane are not held up.
pub(crate) async fn clear(on: MultiplexedConnection, prefix: &str) -> RedisResult<u64> {
    let leases = pattern(LEASES);
    let mut cursor = 0;
    loop {
        let names = scan(on.clone(), &mut cursor, &leases).await?;
        for key in names.iter().filter_map(|name| key_of(name)).filter(|key| key.starts_with(prefix)) {
            match scripts::invalidate(on.clone(), &key, None).await {
                Err(error) if error.code() != Some("WRONGTYPE") => return Err(error),
                _ => {}
            }
        }
        if cursor == 0 {
            break;
        }
    }
    let values = pattern(prefix);
    let mut cleared = 0;
    loop {
        let names = scan(on.clone(), &mut cursor, &values).await?;
        for name in names {
            // One command for each key: the keys of a batch lie in different slots.
            cleared += cmd("UNLINK").arg(name).query_async::<u64>(&mut on.clone()).await?;
        }
        if cursor == 0 {
            return Ok(cleared);
        }
    }
}

async fn scan(mut on: MultiplexedConnection, cursor: &mut u64, pattern: &str) -> RedisResult<Vec<String>> {
    let mut scan = cmd("SCAN");
    scan.arg(*cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP).arg("TYPE").arg("string");
    let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(&mut on).await?;
    *cursor = next;
    // A name that is not UTF-8 was not written by a larder.
    Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
}
