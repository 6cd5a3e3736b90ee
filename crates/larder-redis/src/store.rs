use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::redis::{ErrorKind, RedisError, RedisResult, Value, cmd};
use larder_core::{
    Claim, Committed, Digest, Invalidated, Key, LaneState, PushListener, RemoteStats, RemoteStore, Replacing,
    StoreError, Stored, Token, WriteClaim,
};
use tokio::task::AbortHandle;

use crate::{
    RedisConfig, advice,
    breaker::Breaker,
    bulk::LARGE,
    bus::Bus,
    endpoint::Endpoint,
    keeper,
    keys::{ORDER, slot, tag_of},
    lane::{Lane, TRIES},
    nodes::{Nodes, Opened},
    probe,
    push::Listeners,
    scripts,
    wire::Wire,
};

/// A [`RemoteStore`] on Redis 6.2 or later, or Valkey.
///
/// Values are stored as they come, under their key. The lease of `user:42` is `larder:lease:{user:42}`, the number under
/// which the tag `org:7` is held is `larder:{tags}:org:7`.
///
/// Where the server refuses `CLIENT TRACKING`, processes tell each other what they change, over a channel. All who share a
/// server must then be so: one that tracks does not tell.
///
/// In a cluster, each lane is connected to every master. When a slot moves, the lanes that meet it are connected anew, and
/// until then calls fail; while one is on its way, a clear is refused. What is known of a tag is then in no order with
/// the values of other masters: see [`LaneState::Scattered`].
///
/// Dropping the store closes its connections.
pub struct RedisStore {
    shown: String,
    lanes: Vec<Arc<Lane>>,
    listeners: Arc<Listeners>,
    bus: Arc<Bus>,
    breaker: Arc<Breaker>,
    tasks: Vec<AbortHandle>,
}

/// The lanes that are to be connected, each with what connects it.
type Unopened = Vec<(Arc<Lane>, Nodes)>;

impl RedisStore {
    /// Connects all lanes. Must be called in a tokio runtime, which then keeps the connections.
    ///
    /// # Errors
    /// [`StoreError::Address`], [`StoreError::Unreachable`], [`StoreError::TimedOut`] and
    /// [`StoreError::Unauthorized`], each with the address.
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let (mut store, lanes) = Self::new(&config)?;
        for (lane, mut nodes) in lanes {
            let opened = keeper::connect(&lane, &mut nodes, &lane.breaker.at_start()).await?;
            store.keep(&config, lane, nodes, Some(opened));
        }
        if store.lanes.iter().any(|lane| lane.needs_bus()) {
            store.bus.tried().await; // bounded by the time to connect
        }
        Ok(store)
    }

    /// Connects in the background: until then, and whenever a connection is lost, calls fail at once. Must be called
    /// in a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::Address`].
    pub fn connect_lazy(config: RedisConfig) -> Result<Self, StoreError> {
        let (mut store, lanes) = Self::new(&config)?;
        for (lane, nodes) in lanes {
            store.keep(&config, lane, nodes, None);
        }
        Ok(store)
    }

    /// Makes the store, with the lanes that are to be connected.
    fn new(config: &RedisConfig) -> Result<(Self, Unopened), StoreError> {
        let endpoint = Endpoint::parse(config)?;
        let listeners = Arc::new(Listeners::default());
        let bus = Arc::new(Bus::new(endpoint.info.redis_settings().db(), listeners.clone()));
        let breaker = Arc::new(Breaker::new(config, endpoint.shown.clone(), listeners.clone()));
        let open = |index| {
            let (shown, listeners) = (endpoint.shown.clone(), listeners.clone());
            let lane = Arc::new(Lane::new(index, shown, config, listeners, bus.clone(), breaker.clone()));
            let nodes = Nodes::new(config, &endpoint, &Arc::downgrade(&lane))?;
            Ok((lane, nodes))
        };
        let unopened = (0..config.lanes).map(open).collect::<Result<Unopened, StoreError>>()?;
        let lanes: Vec<_> = unopened.iter().map(|(lane, _)| lane.clone()).collect();
        // Tasks of their own, because nobody else would notice that nothing is told any more.
        let tasks = vec![
            tokio::spawn(bus.clone().run(lanes.clone(), config.clone())).abort_handle(),
            tokio::spawn(probe::run(lanes.clone(), config.clone())).abort_handle(),
        ];
        Ok((Self { shown: endpoint.shown, lanes, listeners, bus, breaker, tasks }, unopened))
    }

    fn keep(&mut self, config: &RedisConfig, lane: Arc<Lane>, nodes: Nodes, opened: Option<Opened>) {
        // A task for each lane, because nobody else would notice that an idle connection is lost.
        let keeper = tokio::spawn(keeper::keep(lane, nodes, config.ping_interval, opened));
        self.tasks.push(keeper.abort_handle());
    }

    fn at(&self, lane: u16) -> Result<&Lane, StoreError> {
        let unreachable = || StoreError::Unreachable { address: self.shown.clone(), source: None };
        self.lanes.get(usize::from(lane)).map(|lane| &**lane).ok_or_else(unreachable)
    }

    fn of(&self, key: &str) -> &Lane {
        &self.lanes[usize::from(self.lane(key))]
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.shown)
            .field("breaker", &self.breaker.state())
            .field("lanes", &self.lanes)
            .finish()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A reply that none of our commands gives.
pub(crate) fn unexpected() -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, "the server's reply is not one of this command"))
}

pub(crate) fn bytes(value: Value) -> RedisResult<Option<Bytes>> {
    match value.extract_error()? {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())), // moved, not copied
        _ => Err(unexpected()),
    }
}

pub(crate) fn rest(value: Value) -> RedisResult<Option<Duration>> {
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
        match self.lanes() {
            0 | 1 => 0,
            lanes => slot(key) % lanes,
        }
    }

    fn lane_state(&self, lane: u16) -> LaneState {
        self.lanes.get(usize::from(lane)).map_or(LaneState::Down, |lane| lane.state())
    }

    fn subscribe(&self, listener: Weak<dyn PushListener>) {
        self.listeners.add(listener);
    }

    fn call_timeout(&self) -> Option<Duration> {
        self.lanes.first().map(|lane| lane.call_timeout())
    }

    async fn advice(&self) -> Vec<String> {
        let up = self.lanes.iter().find(|lane| lane.state() != LaneState::Down);
        let Some(lane) = up else { return Vec::new() };
        // A server may refuse to tell, as hosted ones do: that is no trouble.
        lane.ask("", advice::ask).await.unwrap_or_default()
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.of(key).get(key, false).await?.map(|stored| stored.value))
    }

    async fn get_with_ttl(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        self.of(key).get(key, true).await
    }

    async fn get_many(
        &self,
        lane: u16,
        keys: &[&str],
        with_ttl: bool,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        self.at(lane)?.get_many(keys, with_ttl).await
    }

    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
    ) -> Result<Claim, StoreError> {
        let ask = async |on| match scripts::claim(on, key, token, millis(lease), replacing).await? {
            Value::Okay => Ok(Some(Claim::Leased)),
            Value::Array(found) if found.is_empty() => Ok(None),
            Value::Array(found) => {
                let [value, pttl] = <[Value; 2]>::try_from(found).map_err(|_| unexpected())?;
                let value = bytes(value)?.ok_or_else(unexpected)?;
                Ok(Some(Claim::Hit(Stored { value, ttl: rest(pttl)? })))
            }
            busy => Ok(Some(Claim::Busy(rest(busy)?.unwrap_or_default()))),
        };
        let lane = self.of(key);
        let live = lane.live()?;
        let node = live.node(key);
        match lane.ask_on(&live, node, key, ask).await? {
            Some(claim) => Ok(claim),
            None => {
                let stored = lane.get_large(node, key).await?;
                // If it has gone meanwhile, the key is to be claimed anew.
                Ok(stored.map_or(Claim::Busy(Duration::ZERO), Claim::Hit))
            }
        }
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
    ) -> Result<Committed, StoreError> {
        let ask = async |on| scripts::commit(on, key, token, value, millis(ttl), replacing).await;
        match value.len() < LARGE {
            true => self.of(key).commit(key, ask).await,
            false => self.of(key).commit_large(key, ask).await,
        }
    }

    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
    ) -> Result<Committed, StoreError> {
        let ttl_ms = if ttl.is_zero() { 0 } else { millis(ttl) };
        let ask = async |on| scripts::touch(on, key, token, kept, ttl_ms).await;
        self.of(key).commit(key, ask).await
    }

    async fn holds(&self, key: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.of(key).ask(key, async |on| scripts::holds(on, key, digest).await).await
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError> {
        self.of(key).ask(key, async |on| scripts::release(on, key, token).await).await
    }

    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        self.of(key.as_str()).invalidate(key, own).await
    }

    async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        self.of(prefix).clear(prefix).await
    }

    async fn tag_epoch(&self, lane: u16) -> Result<u64, StoreError> {
        self.at(lane)?.ask(ORDER, scripts::tag_epoch).await
    }

    async fn tags(&self, lane: u16, tags: &[&str]) -> Result<Vec<Option<u64>>, StoreError> {
        let names: Vec<String> = tags.iter().map(|tag| tag_of(tag)).collect();
        let ask = async |mut on: Wire| cmd("MGET").arg(&names).query_async(&mut on.connection).await;
        self.at(lane)?.ask(ORDER, ask).await
    }

    async fn pin_tags(
        &self,
        lane: u16,
        tags: &[&str],
        order: u64,
        ttl: Duration,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        self.at(lane)?.ask(ORDER, async |on| scripts::pin_tags(on, tags, order, millis(ttl)).await).await
    }

    async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, StoreError> {
        for _ in 0..TRIES {
            for lane in &self.lanes {
                if lane.invalidate_tag(tag).await? {
                    return Ok(Invalidated::Done);
                }
            }
            // P11 unsent-goes-first: entries with the tag are read through every lane, so each must send it before it is read through.
            let mut all_are_down = true;
            for lane in &self.lanes {
                all_are_down &= lane.remember_tag(tag).await?;
            }
            if all_are_down {
                return Ok(Invalidated::Deferred);
            }
        }
        // Connections come and fail: leave it to the next ones.
        for lane in &self.lanes {
            while !lane.remember_tag(tag).await? {
                lane.give_up(&"an invalidation failed on it");
            }
        }
        Ok(Invalidated::Deferred)
    }

    fn stats(&self) -> RemoteStats {
        let pending = self.lanes.iter().map(|lane| lane.pending()).sum();
        self.listeners.tally.report(self.breaker.state(), pending)
    }
}
