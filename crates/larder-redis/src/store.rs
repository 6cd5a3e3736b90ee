use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::redis::{ErrorKind, RedisError, RedisResult, Value, aio::ConnectionLike, cmd, pipe};
use larder_core::{
    Claim, Invalidated, LaneState, PushListener, RemoteStore, Replacing, StoreError, Stored, Token,
    WriteClaim,
};
use tokio::task::AbortHandle;

use crate::{
    RedisConfig, clear, connector::Connector, endpoint::Endpoint, keeper, keys::slot, lane::Lane,
    push::Listeners, scripts,
};

/// A [`RemoteStore`] on Redis 6.2 or later, or Valkey.
///
/// Values are stored as they come, under their key. The lease of `user:42` is `larder:lease:{user:42}`.
/// Dropping the store closes its connections.
pub struct RedisStore {
    shown: String,
    lanes: Vec<Arc<Lane>>,
    listeners: Arc<Listeners>,
    keepers: Vec<AbortHandle>,
}

impl RedisStore {
    /// Connects all lanes. Must be called in a tokio runtime, which then keeps the connections.
    ///
    /// # Errors
    /// [`StoreError::Address`], [`StoreError::Unreachable`], [`StoreError::TimedOut`] and
    /// [`StoreError::Unauthorized`], each with the address.
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let mut store = Self::new(&config)?;
        for (lane, connector) in store.open(&config)? {
            let connection = keeper::connect(&lane, &connector).await?;
            store.keep(&config, lane, connector, Some(connection));
        }
        Ok(store)
    }

    /// Connects in the background: until then, and whenever a connection is lost, calls fail at once. Must be called
    /// in a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Address`].
    pub fn connect_lazy(config: RedisConfig) -> Result<Self, StoreError> {
        let mut store = Self::new(&config)?;
        for (lane, connector) in store.open(&config)? {
            store.keep(&config, lane, connector, None);
        }
        Ok(store)
    }

    fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let shown = Endpoint::parse(config)?.shown;
        Ok(Self { shown, lanes: Vec::new(), listeners: Arc::default(), keepers: Vec::new() })
    }

    fn open(&self, config: &RedisConfig) -> Result<Vec<(Arc<Lane>, Connector)>, StoreError> {
        let endpoint = Endpoint::parse(config)?;
        let lanes = 0..config.lanes;
        let open = |index| {
            let lane = Arc::new(Lane::new(index, endpoint.shown.clone(), config, self.listeners.clone()));
            let connector = Connector::new(config, &endpoint, &Arc::downgrade(&lane))?;
            Ok((lane, connector))
        };
        lanes.map(open).collect()
    }

    fn keep(
        &mut self,
        config: &RedisConfig,
        lane: Arc<Lane>,
        connector: Connector,
        connection: Option<deadpool_redis::Connection>,
    ) {
        self.lanes.push(lane.clone());
        // A task for each lane, because nobody else would notice that an idle connection is lost.
        let keeper = tokio::spawn(keeper::keep(lane, connector, config.ping_interval, connection));
        self.keepers.push(keeper.abort_handle());
    }

    fn of(&self, key: &str) -> &Lane {
        &self.lanes[usize::from(self.lane(key))]
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.keepers.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.shown).field("lanes", &self.lanes).finish()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A reply that none of our commands gives.
fn unexpected() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "the server's reply is not one of this command"))
}

fn bytes(value: Value) -> RedisResult<Option<Bytes>> {
    match value.extract_error()? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())), // moved, not copied
        _ => Err(unexpected()),
    }
}

fn rest(value: Value) -> RedisResult<Option<Duration>> {
    match value.extract_error()? {
        Value::Int(ms) => Ok(u64::try_from(ms).ok().map(Duration::from_millis)),
        _ => Err(unexpected()),
    }
}

#[async_trait]
impl RemoteStore for RedisStore {
    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    fn lane(&self, key: &str) -> u16 {
        slot(key) % self.lanes().max(1)
    }

    fn lane_state(&self, lane: u16) -> LaneState {
        self.lanes.get(usize::from(lane)).map_or(LaneState::Down, |lane| lane.state())
    }

    fn listen(&self, listener: Weak<dyn PushListener>) {
        self.listeners.add(listener);
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let ask = async |mut on: deadpool_redis::redis::aio::MultiplexedConnection| {
            bytes(on.req_packed_command(cmd("GET").arg(key)).await?)
        };
        self.of(key).ask(key, ask).await
    }

    async fn get_with_ttl(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let ask = async |mut on: deadpool_redis::redis::aio::MultiplexedConnection| {
            let mut both = pipe();
            both.cmd("GET").arg(key).cmd("PTTL").arg(key);
            let mut replies = on.req_packed_commands(&both, 0, 2).await?.into_iter();
            let value = bytes(replies.next().ok_or_else(unexpected)?)?;
            let pttl = replies.next().ok_or_else(unexpected)?;
            Ok(match (value, pttl) {
                // It expired between the two commands.
                (None, _) | (_, Value::Int(-2)) => None,
                (Some(value), pttl) => Some(Stored { value, ttl: rest(pttl)? }),
            })
        };
        self.of(key).ask(key, ask).await
    }

    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
    ) -> Result<Claim, StoreError> {
        let ask = async |on| match scripts::claim(on, key, token, millis(lease), replacing).await? {
            Value::Okay => Ok(Claim::Leased),
            Value::Array(found) => {
                let [value, pttl] = <[Value; 2]>::try_from(found).map_err(|_| unexpected())?;
                let value = bytes(value)?.ok_or_else(unexpected)?;
                Ok(Claim::Hit(Stored { value, ttl: rest(pttl)? }))
            }
            busy => Ok(Claim::Busy(rest(busy)?.unwrap_or_default())),
        };
        self.of(key).ask(key, ask).await
    }

    async fn begin_write(&self, key: &str, token: &Token, lease: Duration) -> Result<WriteClaim, StoreError> {
        let ask = async |on| match scripts::begin_write(on, key, token, millis(lease)).await? {
            Value::Okay => Ok(WriteClaim::Leased),
            busy => Ok(WriteClaim::Busy(rest(busy)?.unwrap_or_default())),
        };
        self.of(key).ask(key, ask).await
    }

    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError> {
        self.of(key).ask(key, async |on| scripts::renew(on, key, token, millis(lease)).await).await
    }

    async fn commit(
        &self,
        key: &str,
        token: &Token,
        value: &[u8],
        ttl: Duration,
        replacing: Replacing<'_>,
    ) -> Result<bool, StoreError> {
        let ask = async |on| scripts::commit(on, key, token, value, millis(ttl), replacing).await;
        self.of(key).ask(key, ask).await
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError> {
        self.of(key).ask(key, async |on| scripts::release(on, key, token).await).await
    }

    async fn invalidate(&self, key: &str, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        self.of(key).invalidate(key, own).await
    }

    async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        self.of(prefix).ask(prefix, async |on| clear::clear(on, prefix).await).await
    }
}
