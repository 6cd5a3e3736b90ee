mod tags;

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::redis::PushInfo;
use larder_core::{
    BreakerState, Claim, Committed, Digest, Invalidated, Key, LaneIndex, LaneState, Lanes,
    LeaseStore, PushListener, RemoteStats, Replacing, StoreError, Stored, Token, Track, ValueStore,
    Want, WriteClaim,
};

use crate::{
    advice,
    breaker::Breaker,
    command::{
        names::Names,
        reply::LARGE_VALUE,
        scripts::{self, CommitReply},
        slots::slot,
    },
    config::RedisConfig,
    connection::{
        addresses::Addresses, bus::Bus, dialer::Dialer, handshake::PushSink, shards::Shards,
    },
    health::{subscriber::Subscriber, tasks::Tasks},
    lane::{
        Lane, Peers, Shared,
        claim::{claim, commit, commit_large},
        clear::clear,
        get::get,
        get_many::get_many,
        invalidate::invalidate,
        note_in_all,
    },
    listeners::Listeners,
    redo::log::Kind,
    rights,
};

/// A [`RemoteStore`](larder_core::RemoteStore) on Redis 6.2 or later, or Valkey.
///
/// | name in Redis, after the [namespace](RedisConfig::namespace) | holds |
/// | --- | --- |
/// | `user:42` | a value, under the key that the caller gives |
/// | `larder:lease:{user:42}` | the lease of that key |
/// | `larder:{tags}` | the tag epoch |
/// | `larder:{tags}:org:7` | the epoch at which the tag `org:7` was pinned |
/// | `larder:probe:…` | keys by which connections prove that pushes arrive, and marks by which a server shows that it has forgotten nothing |
/// | `larder:bus:0` | the invalidation channel of database 0 |
///
/// Where the server refuses `CLIENT TRACKING`, the process publishes what it changes on the
/// invalidation channel, and listens there. A process that tracks publishes nothing, so entries
/// live in L1 for at most `degraded_l1_ttl`, unless [all processes](crate::Coherence::Channel) publish.
///
/// Behind Sentinel, and at an address that fails over, the lanes follow the master. A replica is
/// never used.
///
/// In a cluster, each lane is connected to every master. The keys of a master that is gone are out
/// of reach, and those of the others are not, unless the servers refuse that. When a slot moves,
/// the lanes that meet it reconnect, and until then calls fail; while a slot migrates, a clear is
/// refused. What is known of a tag is then in no order with the values of other masters: see
/// [`LaneState::Scattered`].
///
/// One tokio runtime drives the connections. When it ends, the process drops what it has read
/// through them, and the next call connects the store again, in its own runtime. That call, and
/// calls that come meanwhile, wait for it, at most for
/// [`command_timeout`](RedisConfig::command_timeout).
///
/// Dropping the store closes its connections.
///
/// ```no_run
/// use std::time::Duration;
/// use larder_core::{Claim, LeaseStore, Replacing, Token, Track};
/// use larder_redis::{RedisConfig, RedisStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), larder_core::StoreError> {
/// let store = RedisStore::connect(RedisConfig::new("redis://127.0.0.1:6379")).await?;
/// let (token, minute) = (Token::new(), Duration::from_secs(60));
/// let (new, track) = (Replacing::Nothing, Track::Value);
/// if let Claim::Leased = store.claim("user:42", &token, minute, new, track).await? {
///     store.commit("user:42", &token, b"{\"name\":\"Ada\"}", minute, new, track).await?;
/// }
/// # Ok(()) }
/// ```
pub struct RedisStore {
    shown: String,
    lanes: Vec<Arc<Lane>>,
    names: Arc<Names>,
    listeners: Arc<Listeners>,
    bus: Arc<Bus>,
    breaker: Arc<Breaker>,
    tasks: Arc<Tasks>,
}

impl RedisStore {
    /// Connects all lanes. Must be called in a tokio runtime, which then drives the connections.
    /// When that has ended, the next call connects the store again, in its own runtime.
    ///
    /// # Errors
    /// Nothing is left connected after any of these:
    ///
    /// - [`StoreError::Address`] if the address or the root certificate cannot be used
    /// - [`StoreError::Namespace`] if the namespace cannot be used
    /// - [`StoreError::Unreachable`] or [`StoreError::TimedOut`] if no server answers at the
    ///   address
    /// - [`StoreError::Unauthorized`] if the server refuses the user name or password
    /// - [`StoreError::Unfit`] if the server is a replica or a Sentinel, or if the user lacks a
    ///   command, keys or the channel, which it names
    /// - [`StoreError::Refused`] with the words of a server that turns the connection away
    ///
    /// ```no_run
    /// use larder_core::ValueStore;
    /// use larder_redis::{RedisConfig, RedisStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), larder_core::StoreError> {
    /// let store = RedisStore::connect(RedisConfig::new("redis://127.0.0.1:6379")).await?;
    /// assert_eq!(store.get("user:42").await?, None);
    /// # Ok(()) }
    /// ```
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let store = Self::new(&config)?;
        let mut dialed = Vec::new();
        for (index, lane) in store.lanes.iter().enumerate() {
            let permit = store.breaker.at_start();
            dialed.push(store.tasks.connect(index, &permit).await?);
            if index == 0
                && let Some(session) = lane.current.load()
            {
                Box::pin(rights::check(
                    &session,
                    &config.prefixes,
                    &store.shown,
                    config.command_timeout,
                ))
                .await?;
            }
        }
        store.tasks.start(dialed);
        if store.lanes.iter().any(|lane| lane.needs_bus()) {
            store.bus.tried().await; // bounded by the time to connect
        }
        Ok(store)
    }

    /// Connects in the background: until the store is connected, and whenever it has lost a
    /// connection, calls fail at once. Outside a tokio runtime, the store connects with its first
    /// call.
    ///
    /// # Errors
    /// - [`StoreError::Address`] if the address or the root certificate cannot be used
    /// - [`StoreError::Namespace`] if the namespace cannot be used
    ///
    /// ```
    /// use larder_core::{LaneIndex, LaneState, Lanes, ValueStore};
    /// use larder_redis::{RedisConfig, RedisStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), larder_core::StoreError> {
    /// // No server is there.
    /// let store = RedisStore::connect_lazy(RedisConfig::new("redis://127.0.0.1:1"))?;
    /// assert_eq!(store.lane_state(LaneIndex(0)), LaneState::Down);
    /// assert!(store.get("user:42").await.is_err());
    /// # Ok(()) }
    /// ```
    pub fn connect_lazy(config: RedisConfig) -> Result<Self, StoreError> {
        let store = Self::new(&config)?;
        store.tasks.start(Vec::new());
        Ok(store)
    }

    /// Makes a store that is not connected yet.
    fn new(config: &RedisConfig) -> Result<Self, StoreError> {
        let names = Arc::new(Names::new(config.checked_namespace()?));
        let addresses = Arc::new(Addresses::parse(config)?);
        let shards = Arc::new(Shards::new(config));
        let listeners = Arc::new(Listeners::default());
        let bus = Arc::new(Bus::new(names.channel(addresses.db()), config.coherence));
        let breaker = Arc::new(Breaker::new(
            config,
            addresses.shown.clone(),
            listeners.clone(),
        ));
        let shared = Shared {
            shown: addresses.shown.clone(),
            names: names.clone(),
            listeners: listeners.clone(),
            breaker: breaker.clone(),
            bus: bus.clone(),
            peers: Peers::default(),
            has_large_values: Arc::default(),
        };
        let unconnected = |index| {
            let lane = Arc::new(Lane::new(index, config, shared.clone()));
            let dialer = Dialer::new(config, addresses.clone(), shards.clone(), sink(&lane));
            (lane, dialer)
        };
        let unconnected: Vec<_> = LaneIndex::all(config.lanes).map(unconnected).collect();
        let lanes: Vec<_> = unconnected.iter().map(|(lane, _)| lane.clone()).collect();
        let peers = lanes.iter().map(Arc::downgrade).collect();
        let _set_once = shared.peers.set(peers);
        let subscriber = Subscriber {
            bus: bus.clone(),
            names: names.clone(),
            listeners: listeners.clone(),
            lanes: lanes.clone(),
            config: config.clone(),
        };
        Ok(Self {
            shown: addresses.shown.clone(),
            lanes,
            names,
            listeners,
            bus,
            breaker,
            tasks: Tasks::new(addresses, subscriber, unconnected),
        })
    }

    /// The lanes, for a call. Each call comes through here.
    // P32 runtime-end-is-loss: the call that finds the tasks' runtime gone starts them anew
    async fn awake(&self) -> &[Arc<Lane>] {
        self.tasks.wake().await;
        &self.lanes
    }

    async fn lane_at(&self, lane: LaneIndex) -> Result<&Lane, StoreError> {
        let unreachable = || StoreError::Unreachable {
            address: self.shown.clone(),
            source: None,
        };
        self.awake()
            .await
            .get(usize::from(lane.0))
            .map(|lane| &**lane)
            .ok_or_else(unreachable)
    }

    async fn lane_of(&self, key: &str) -> &Lane {
        &self.awake().await[usize::from(self.lane(key).0)]
    }

    /// The state of the breaker: open while no runtime drives a connection.
    fn breaker_state(&self) -> BreakerState {
        match self.tasks.is_asleep() {
            true => BreakerState::Open,
            false => self.breaker.state(),
        }
    }
}

/// Gives a lane the pushes of its connections, for as long as the lane lives.
fn sink(lane: &Arc<Lane>) -> PushSink {
    let lane = Arc::downgrade(lane);
    Arc::new(move |push: &PushInfo| {
        if let Some(lane) = lane.upgrade() {
            lane.on_push(push);
        }
    })
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.tasks.close();
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("address", &self.shown)
            .field("breaker", &self.breaker_state())
            .field("lanes", &self.lanes)
            .finish()
    }
}

#[async_trait]
impl Lanes for RedisStore {
    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(u16::MAX)
    }

    fn lane(&self, key: &str) -> LaneIndex {
        match self.lanes() {
            0 | 1 => LaneIndex(0),
            lanes => LaneIndex(slot(key) % lanes),
        }
    }

    fn lane_state(&self, lane: LaneIndex) -> LaneState {
        self.lanes
            .get(usize::from(lane.0))
            .map_or(LaneState::Down, |lane| lane.state())
    }

    fn subscribe(&self, listener: Weak<dyn PushListener>) {
        self.listeners.add(listener);
    }

    fn call_timeout(&self) -> Option<Duration> {
        self.lanes
            .first()
            .map(|lane| lane.current.command_timeout())
    }

    async fn advice(&self) -> Vec<String> {
        let up = self
            .lanes
            .iter()
            .find(|lane| lane.state() != LaneState::Down);
        let Some(lane) = up else { return Vec::new() };
        // A server may refuse to tell, as hosted ones do: that is no trouble.
        lane.current.ask("", advice::ask).await.unwrap_or_default()
    }

    fn clear_on_data_loss(&self, prefix: &str) {
        self.lanes
            .iter()
            .for_each(|lane| lane.redo.clear_also(prefix));
    }

    fn stats(&self) -> RemoteStats {
        let unsent = self.lanes.iter().map(|lane| lane.unsent.len()).sum();
        self.listeners.stats.read(self.breaker_state(), unsent)
    }

    async fn resume(&self) {
        self.tasks.wake().await;
    }

    fn close(&self) {
        self.tasks.close();
    }
}

#[async_trait]
impl ValueStore for RedisStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let current = &self.lane_of(key).await.current;
        let stored = get(current, key, Want::Value, Track::Nothing).await?;
        Ok(stored.map(|stored| stored.value))
    }

    async fn get_with_ttl(&self, key: &str, track: Track) -> Result<Option<Stored>, StoreError> {
        get(
            &self.lane_of(key).await.current,
            key,
            Want::ValueAndTtl,
            track,
        )
        .await
    }

    async fn get_many(
        &self,
        lane: LaneIndex,
        keys: &[&str],
        want: Want,
        track: Track,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        get_many(&self.lane_at(lane).await?.current, keys, want, track).await
    }

    async fn holds(&self, key: &str, digest: &Digest) -> Result<bool, StoreError> {
        let ask = async |on| scripts::holds(on, key, digest).await;
        self.lane_of(key).await.current.ask(key, ask).await
    }

    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        let lane = self.lane_of(key.as_str()).await;
        invalidate(&lane.current, &lane.unsent, &lane.redo, key, own).await
    }

    async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        let lane = self.lane_of(prefix).await;
        let _noted = note_in_all(&self.lanes, Kind::Prefix, prefix);
        clear(&lane.current, prefix).await
    }
}

#[async_trait]
impl LeaseStore for RedisStore {
    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Claim, StoreError> {
        let current = &self.lane_of(key).await.current;
        claim(current, key, token, lease, replacing, track).await
    }

    async fn begin_write(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
    ) -> Result<WriteClaim, StoreError> {
        let lane = self.lane_of(key).await;
        let _noted = lane.redo.note(Kind::Key, key);
        let ask = async |on| scripts::begin_write(on, key, token, lease).await;
        lane.current.ask(key, ask).await
    }

    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError> {
        let ask = async |on| scripts::renew(on, key, token, lease).await;
        self.lane_of(key).await.current.ask(key, ask).await
    }

    async fn commit(
        &self,
        key: &str,
        token: &Token,
        value: &[u8],
        ttl: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Committed, StoreError> {
        let ask = async |on| scripts::commit(on, key, token, value, ttl, replacing, track).await;
        let lane = self.lane_of(key).await;
        let replaces = replacing != Replacing::Nothing;
        let _noted = replaces.then(|| lane.redo.note(Kind::Key, key));
        let (reply, committed) = match value.len() < LARGE_VALUE {
            true => commit(&lane.current, &lane.health, key, track, ask).await?,
            false => commit_large(&lane.current, key, ask).await?,
        };
        if reply == CommitReply::Loaded && !replaces && track == Track::Value {
            lane.current.absences.take_one();
        }
        Ok(committed)
    }

    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
        track: Track,
    ) -> Result<Committed, StoreError> {
        let ask = async |on| scripts::touch(on, key, token, kept, ttl, track).await;
        let lane = self.lane_of(key).await;
        let _noted = ttl.is_zero().then(|| lane.redo.note(Kind::Key, key));
        let (_, committed) = commit(&lane.current, &lane.health, key, track, ask).await?;
        Ok(committed)
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError> {
        let ask = async |on| scripts::release(on, key, token).await;
        self.lane_of(key).await.current.ask(key, ask).await
    }
}
