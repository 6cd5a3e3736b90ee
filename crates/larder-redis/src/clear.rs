use deadpool_redis::redis::{RedisResult, cmd, pipe};
use futures_util::future::join_all;

use crate::{
    bus::Bus,
    keys::{LEASES, key_of, pattern},
    scripts,
    wire::Wire,
};

/// How many keys the server looks at for each reply.
const STEP: usize = 512;

/// Invalidates every key that begins with `prefix`. P25: first the leases, so that no load which began before can commit,
/// then the values. Each step is a command of its own, so that other callers of the lane are not held up.
pub(crate) async fn clear(mut on: Wire, prefix: &str) -> RedisResult<u64> {
    let leases = pattern(LEASES);
    let mut cursor = 0;
    loop {
        let names = scan(&mut on, &mut cursor, &leases).await?;
        let keys = names.iter().filter_map(|name| key_of(name)).filter(|key| key.starts_with(prefix));
        let invalidations = keys.map(|key| {
            let on = on.clone();
            async move { scripts::invalidate(on, &key, None).await }
        });
        for done in join_all(invalidations).await {
            match done {
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
        // One command for each key, sent at once: the keys of a batch lie in different slots.
        let mut unlinks = pipe();
        for name in scan(&mut on, &mut cursor, &values).await? {
            unlinks.cmd("UNLINK").arg(name);
        }
        if !unlinks.is_empty() {
            let unlinked: Vec<u64> = unlinks.query_async(&mut on.connection).await?;
            cleared += unlinked.iter().sum::<u64>();
        }
        if cursor == 0 {
            break;
        }
    }
    if !on.voice.channel.is_empty() {
        // P26: after the last one, because what was read in between may be old. Nobody is told of each.
        let message = Bus::prefix_message(&on.voice, prefix);
        cmd("PUBLISH").arg(&*on.voice.channel).arg(message).exec_async(&mut on.connection).await?;
    }
    Ok(cleared)
}

async fn scan(on: &mut Wire, cursor: &mut u64, pattern: &str) -> RedisResult<Vec<String>> {
    let mut scan = cmd("SCAN");
    scan.arg(*cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP).arg("TYPE").arg("string");
    let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(&mut on.connection).await?;
    *cursor = next;
    // A name that is not UTF-8 was not written by a larder.
    Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
}
