//! How values are read and written so that a large one holds up no small one.

use bytes::Bytes;
use deadpool_redis::redis::{RedisResult, Value, pipe};
use larder_core::{Committed, StoreError, Stored};

use crate::{
    bulk::LARGE,
    lane::Lane,
    live::Node,
    reads::Answer,
    store::{bytes, rest, unexpected},
    wire::Wire,
};

impl Lane {
    /// Reads a value, which the lane tracks from now on, with the rest of its life if that is asked for.
    pub(crate) async fn get(&self, key: &str, with_ttl: bool) -> Result<Option<Stored>, StoreError> {
        let live = self.live()?;
        let node = live.node(key);
        node.note_used();
        match node.reads.read(key, with_ttl).await.and_then(|answer| stored(answer, start)) {
            Ok(Some(stored)) if stored.value.len() >= LARGE => self.get_large(node, key).await,
            Ok(stored) => Ok(stored),
            Err(error) => {
                self.judge(&live, node, &error);
                Err(self.describe(error, &node.endpoint.shown, key))
            }
        }
    }

    /// Reads a value beside the lane.
    // P29 large-out-of-band: the lane has read the key before, so it is told of whatever happens to the value from then on.
    pub(crate) async fn get_large(&self, node: &Node, key: &str) -> Result<Option<Stored>, StoreError> {
        self.meet_large();
        self.ask_beside(node, key, async |on| whole(on, key).await).await
    }

    /// Runs a commit of a large value beside the lane, which has yet to read it.
    pub(crate) async fn commit_large(
        &self,
        key: &str,
        commit: impl AsyncFnOnce(Wire) -> RedisResult<bool>,
    ) -> Result<Committed, StoreError> {
        self.meet_large();
        let live = self.live()?;
        let is_done = self.ask_beside(live.node(key), key, commit).await?;
        Ok(if is_done { Committed::Stored } else { Committed::Refused })
    }

    /// Asks something of a server over a connection that is not the lane's.
    pub(crate) async fn ask_beside<T>(
        &self,
        node: &Node,
        key: &str,
        ask: impl AsyncFnOnce(Wire) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        node.bulk.ask(&node.wire.voice, ask).await.map_err(|error| {
            // It says nothing about the lane, which finds out by itself.
            self.describe(error, &node.endpoint.shown, key)
        })
    }
}

/// What is answered where the start of a value was asked for: nothing at all, where there is no value.
fn start(value: Value) -> RedisResult<Option<Bytes>> {
    Ok(bytes(value)?.filter(|value| !value.is_empty()))
}

/// Reads a key as a whole, and the rest of its life, in one round trip.
async fn whole(mut on: Wire, key: &str) -> RedisResult<Option<Stored>> {
    let mut both = pipe();
    both.cmd("GET").arg(key).cmd("PTTL").arg(key);
    let replies = on.connection.send_packed_commands(&both, 0, 2).await?;
    let [value, rest] = <[Value; 2]>::try_from(replies).map_err(|_| unexpected())?;
    stored(Answer { value, rest: Some(rest) }, bytes)
}

fn stored(
    answer: Answer,
    read: impl FnOnce(Value) -> RedisResult<Option<Bytes>>,
) -> RedisResult<Option<Stored>> {
    match (read(answer.value)?, answer.rest) {
        // It expired between the two commands.
        (None, _) | (_, Some(Value::Int(-2))) => Ok(None),
        (Some(value), pttl) => Ok(Some(Stored { value, ttl: pttl.map(rest).transpose()?.flatten() })),
    }
}
