//! Invalidations of everything that has a name of some kind, on one server, by `SCAN`.

use deadpool_redis::redis::{RedisResult, Value, cmd, from_redis_value, pipe};
use futures_util::future::join_all;

use crate::{
    command::{scripts, target::Target},
    error::is_wrong_type,
};

/// How many keys the server looks at for each reply: it answers nobody else meanwhile.
const STEP: usize = 512;

/// Invalidates every key that begins with `prefix`, and returns how many values there were.
// P25 clear-leaves-nothing: first the leases, so that no load that began before can commit, then
// the values. Each step is a command of its own, so that other callers are not held up.
pub(crate) async fn clear(on: Target, prefix: &str) -> RedisResult<u64> {
    break_leases(on.clone(), prefix).await?;
    unlink_values(on, prefix).await
}

async fn break_leases(mut on: Target, prefix: &str) -> RedisResult<()> {
    let leases = pattern(&on.names().leases());
    let mut cursor = 0;
    loop {
        let found = scan(&mut on, &mut cursor, &leases).await?;
        let keys = found
            .iter()
            .filter_map(|name| on.names().key_of_lease(name));
        let invalidations = keys.filter(|key| key.starts_with(prefix)).map(|key| {
            let on = on.clone();
            async move { scripts::invalidate(on, &key, None).await }
        });
        for done in join_all(invalidations).await {
            match done {
                Err(error) if !is_wrong_type(&error) => return Err(error),
                _ => {}
            }
        }
        if cursor == 0 {
            return Ok(());
        }
    }
}

async fn unlink_values(mut on: Target, prefix: &str) -> RedisResult<u64> {
    let values = pattern(prefix);
    let (mut cursor, mut cleared) = (0, 0_u64);
    loop {
        // One command for each key, sent together: the keys of a step lie in different slots.
        let mut unlinks = pipe();
        for name in scan(&mut on, &mut cursor, &values).await? {
            unlinks.cmd("UNLINK").arg(name);
        }
        if !unlinks.is_empty() {
            let replies = unlinks.query_async(&mut on.connection).await?;
            cleared = cleared.saturating_add(unlinked(replies)?);
        }
        if cursor == 0 {
            return Ok(cleared);
        }
    }
}

/// Invalidates every tag that is pinned in the namespace.
// P21 tags-pinned-in-time, P23 tags-pinned-before-commit: the epoch grows first, so that no load
// that began before can pin a tag that was not pinned yet.
pub(crate) async fn clear_tags(mut on: Target) -> RedisResult<()> {
    scripts::invalidate_tag(on.clone(), "").await?;
    let prefix = on.names().tags();
    let tags = pattern(&prefix);
    let mut cursor = 0;
    loop {
        let found = scan(&mut on, &mut cursor, &tags).await?;
        let tags = found.iter().filter_map(|name| name.strip_prefix(&*prefix));
        let invalidations = tags.map(|tag| scripts::invalidate_tag(on.clone(), tag));
        join_all(invalidations)
            .await
            .into_iter()
            .collect::<RedisResult<()>>()?;
        if cursor == 0 {
            return Ok(());
        }
    }
}

async fn scan(on: &mut Target, cursor: &mut u64, pattern: &str) -> RedisResult<Vec<String>> {
    let mut scan = cmd("SCAN");
    scan.arg(*cursor)
        .arg("MATCH")
        .arg(pattern)
        .arg("COUNT")
        .arg(STEP)
        .arg("TYPE")
        .arg("string");
    let (next, names) = step(scan.query_async(&mut on.connection).await?)?;
    *cursor = next;
    Ok(names)
}

/// Reads the reply to `SCAN`: the next cursor, and the names that were found.
pub(crate) fn step(reply: Value) -> RedisResult<(u64, Vec<String>)> {
    let (next, names): (u64, Vec<Vec<u8>>) = from_redis_value(reply)?;
    // A name that is not UTF-8 was not written by a larder.
    let names = names
        .into_iter()
        .filter_map(|name| String::from_utf8(name).ok());
    Ok((next, names.collect()))
}

/// Reads the replies to `UNLINK` commands: how many keys there were.
pub(crate) fn unlinked(replies: Value) -> RedisResult<u64> {
    let unlinked: Vec<u64> = from_redis_value(replies)?;
    Ok(unlinked.into_iter().fold(0, u64::saturating_add))
}

/// A pattern for `SCAN MATCH` that matches exactly the texts that begin with `prefix`.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_no_server_has_do_not_overflow() {
        // The client library reads -1 as the largest number.
        let replies = Value::Array(vec![Value::Int(-1), Value::Int(1)]);
        assert_eq!(unlinked(replies).unwrap(), u64::MAX);
    }

    #[test]
    fn pattern_escapes_what_matches_more() {
        assert_eq!(pattern("a*[b]?\\:"), "a\\*\\[b\\]\\?\\\\:*");
    }
}
