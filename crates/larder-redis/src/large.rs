//! How values are read and written so that a large one holds up no small one.

use bytes::Bytes;
use deadpool_redis::redis::{Cmd, RedisResult, Value, cmd, pipe};
use larder_core::{Committed, StoreError, Stored};

use crate::{
    bulk::LARGE,
    lane::Lane,
    live::Node,
    store::{bytes, rest, unexpected},
    wire::Wire,
};

impl Lane {
    /// Reads a value, which the lane tracks from now on.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let (mut connection, number) = self.connection(key)?;
        let asked = connection.send_packed_command(&start_of(key)).await.and_then(start);
        match asked.map_err(|error| self.judge_later(number, key, error))? {
            Some(value) if value.len() >= LARGE => {
                let live = self.live()?;
                Ok(self.get_large(live.node(key), key).await?.map(|stored| stored.value))
            }
            value => Ok(value),
        }
    }

    /// The same with the rest of the value's life.
    pub(crate) async fn get_with_ttl(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let live = self.live()?;
        let node = live.node(key);
        let ask = async |on| stored(both(on, start_of(key), key).await?, start);
        match self.ask_on(&live, node, key, ask).await? {
            Some(stored) if stored.value.len() >= LARGE => self.get_large(node, key).await,
            stored => Ok(stored),
        }
    }

    /// Reads a value beside the lane.
    // P29: the lane has read the key before, so it is told of whatever happens to the value from then on.
    pub(crate) async fn get_large(&self, node: &Node, key: &str) -> Result<Option<Stored>, StoreError> {
        self.meet_large();
        let whole = cmd("GET").arg(key).clone();
        self.ask_beside(node, key, async |on| stored(both(on, whole, key).await?, bytes)).await
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

/// Reads at most so much of a value that what is asked next need not wait for it long.
fn start_of(key: &str) -> Cmd {
    const NAME: &str = "GETRANGE";
    const LIMITS: usize = "065535".len();
    let mut start = Cmd::with_capacity(4, NAME.len() + key.len() + LIMITS);
    start.arg(NAME).arg(key).arg(0).arg(LARGE - 1);
    start
}

/// What [`start_of`] is answered: nothing at all, where there is no value.
fn start(value: Value) -> RedisResult<Option<Bytes>> {
    Ok(bytes(value)?.filter(|value| !value.is_empty()))
}

/// Reads a key by this command, and the rest of its life, in one round trip.
async fn both(mut on: Wire, read: Cmd, key: &str) -> RedisResult<[Value; 2]> {
    let mut both = pipe();
    both.add_command(read).cmd("PTTL").arg(key);
    let replies = on.connection.send_packed_commands(&both, 0, 2).await?;
    <[Value; 2]>::try_from(replies).map_err(|_| unexpected())
}

fn stored(
    [value, pttl]: [Value; 2],
    read: impl FnOnce(Value) -> RedisResult<Option<Bytes>>,
) -> RedisResult<Option<Stored>> {
    match (read(value)?, pttl) {
        // It expired between the two commands.
        (None, _) | (_, Value::Int(-2)) => Ok(None),
        (Some(value), pttl) => Ok(Some(Stored { value, ttl: rest(pttl)? })),
    }
}
