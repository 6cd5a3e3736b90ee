use std::sync::Arc;

use deadpool_redis::redis::{ErrorKind, RedisResult, cmd, pipe};
use futures_util::future::{join_all, try_join_all};
use larder_core::StoreError;

use crate::{
    bus::Bus,
    keys::{LEASES, TAGS, key_of, pattern},
    lane::{Lane, TRIES},
    live::Live,
    scripts,
    topology::own_slots,
    wire::Wire,
};

/// How many keys the server looks at for each reply.
const STEP: usize = 512;

impl Lane {
    /// Invalidates every key that begins with `prefix`, on every master.
    // P25 clear-leaves-nothing: a key on its way from one master to another may be seen by neither, so each slot must have stayed where it was.
    pub(crate) async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        let mut cleared = 0;
        for _ in 0..TRIES {
            let live = self.live()?;
            if self.is_as_known(&live).await? {
                let each = live.nodes().iter();
                let each =
                    each.map(|node| self.ask_on(&live, node, prefix, async |on| clear(on, prefix).await));
                cleared += try_join_all(each).await?.iter().sum::<u64>();
                if self.is_as_known(&live).await? {
                    self.tell_cleared(&live, prefix).await?;
                    return Ok(cleared);
                }
            }
            self.look_anew(&live).await;
        }
        Err(self.moving())
    }

    /// Whether each master has the slots that it is believed to have.
    async fn is_as_known(&self, live: &Arc<Live>) -> Result<bool, StoreError> {
        if live.topology.masters().is_empty() {
            return Ok(true);
        }
        let mut nodes = cmd("CLUSTER");
        nodes.arg("NODES");
        let each = live.nodes().iter().map(|node| {
            self.ask_on(live, node, "", async |mut on| nodes.query_async::<String>(&mut on.connection).await)
        });
        for (master, said) in try_join_all(each).await?.iter().enumerate() {
            let own = own_slots(said).ok_or_else(|| self.moving())?;
            if !live.topology.slots(master).eq(own) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    // P26 scripts-publish: after the last one, because what was read in between may be old. Nobody is told of each.
    async fn tell_cleared(&self, live: &Arc<Live>, prefix: &str) -> Result<(), StoreError> {
        let voice = live.wire(prefix).voice;
        if voice.channel.is_empty() {
            return Ok(());
        }
        self.publish_message(&voice, &Bus::prefix_message(&voice, prefix)).await
    }

    fn moving(&self) -> StoreError {
        self.refused(
            "hash slots are on their way from one master to another: what is in them cannot be cleared yet",
        )
    }
}

/// The same through connections that are not in service yet. Slots that have moved are an error: the next connections
/// know where.
pub(crate) async fn clear_everywhere(live: &Live, prefix: &str) -> RedisResult<()> {
    expect_slots(live).await?;
    for node in live.nodes() {
        clear(node.wire.clone(), prefix).await?;
    }
    expect_slots(live).await?;
    let mut on = live.wire(prefix);
    if on.voice.channel.is_empty() {
        return Ok(());
    }
    // P26 scripts-publish: after the last one, as for any clear.
    let message = Bus::prefix_message(&on.voice, prefix);
    cmd("PUBLISH").arg(&*on.voice.channel).arg(message).exec_async(&mut on.connection).await
}

async fn expect_slots(live: &Live) -> RedisResult<()> {
    for (master, node) in live.nodes().iter().enumerate().filter(|_| !live.topology.masters().is_empty()) {
        let mut connection = node.wire.connection.clone();
        let said: String = cmd("CLUSTER").arg("NODES").query_async(&mut connection).await?;
        if !own_slots(&said).is_some_and(|own| live.topology.slots(master).eq(own)) {
            return Err((ErrorKind::Client, "hash slots have moved to another master").into());
        }
    }
    Ok(())
}

/// Invalidates every key of one server that begins with `prefix`. P25 clear-leaves-nothing: first the leases, so that no load which began
/// before can commit, then the values. Each step is a command of its own, so that other callers are not held up.
async fn clear(mut on: Wire, prefix: &str) -> RedisResult<u64> {
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
    Ok(cleared)
}

/// Invalidates every tag that is held, of every program. P21 tags-pinned-in-time, P23 tags-pinned-before-commit: E grows first, so that no load which began before can
/// hold a tag that was not held yet.
pub(crate) async fn clear_tags(mut on: Wire) -> RedisResult<()> {
    scripts::invalidate_tag(on.clone(), "").await?;
    let tags = pattern(TAGS);
    let mut cursor = 0;
    loop {
        let names = scan(&mut on, &mut cursor, &tags).await?;
        let tags = names.iter().filter_map(|name| name.strip_prefix(TAGS));
        let invalidations = tags.map(|tag| scripts::invalidate_tag(on.clone(), tag));
        join_all(invalidations).await.into_iter().collect::<RedisResult<()>>()?;
        if cursor == 0 {
            return Ok(());
        }
    }
}

async fn scan(on: &mut Wire, cursor: &mut u64, pattern: &str) -> RedisResult<Vec<String>> {
    let mut scan = cmd("SCAN");
    scan.arg(*cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(STEP).arg("TYPE").arg("string");
    let (next, names): (u64, Vec<Vec<u8>>) = scan.query_async(&mut on.connection).await?;
    *cursor = next;
    // A name that is not UTF-8 was not written by a larder.
    Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
}
