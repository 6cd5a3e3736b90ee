use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use larder::Larder;
use larder_core::{
    Claim, Committed, Digest, Invalidated, Key, LaneIndex, LaneState, Lanes, LeaseStore,
    PushListener, RemoteStats, RemoteStore, Replacing, StoreError, Stored, TagEpoch, TagStore,
    Token, Track, ValueStore, Want, WriteClaim,
};
use larder_testkit::Gate;
use larder_ttl::PolicyBuilder;

use super::{
    calls::Items,
    policy::builder,
    world::{World, cache_on, process_of},
};

/// Another remote store with gates before its calls and before their replies, so that a test
/// decides on the order.
#[derive(Debug)]
pub(crate) struct Gated {
    inner: Arc<dyn RemoteStore>,
    /// Whether the process is told nothing: its pushes are on their way all the time.
    is_deaf: bool,
    gates: Mutex<Vec<(Call, When, Gate)>>,
    lost: Mutex<Vec<Call>>,
    calls: Mutex<Vec<Call>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Get,
    GetMany,
    Claim,
    BeginWrite,
    Commit,
    Holds,
    Invalidate,
    Clear,
    Tags,
    HoldTags,
    InvalidateTag,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// The call has not been sent.
    Before,
    /// The store has done it; the reply has not been handled.
    After,
}

impl Gated {
    pub(crate) fn new(inner: Arc<dyn RemoteStore>) -> Arc<Self> {
        Self::with(inner, false)
    }

    /// A store whose pushes do not arrive while the test runs.
    pub(crate) fn deaf(inner: Arc<dyn RemoteStore>) -> Arc<Self> {
        Self::with(inner, true)
    }

    fn with(inner: Arc<dyn RemoteStore>, is_deaf: bool) -> Arc<Self> {
        Arc::new(Self {
            inner,
            is_deaf,
            gates: Mutex::default(),
            lost: Mutex::default(),
            calls: Mutex::default(),
        })
    }

    /// How many such calls there were.
    pub(crate) fn calls(&self, call: Call) -> usize {
        self.calls
            .lock()
            .unwrap()
            .iter()
            .filter(|of| **of == call)
            .count()
    }

    /// Loses the reply to the next such call, which the store has done.
    pub(crate) fn lose_reply(&self, call: Call) {
        self.lost.lock().unwrap().push(call);
    }

    /// Waits until every push has been handled that the server has sent to this key's lane so far.
    pub(crate) async fn hear(&self, key: &str) {
        self.inner.get(key).await.unwrap(); // its reply is handled after them
    }

    /// Puts a gate in the way of the next such call, and of that one only.
    pub(crate) fn gate(&self, call: Call, when: When) -> Gate {
        let gate = Gate::new();
        self.gates.lock().unwrap().push((call, when, gate.clone()));
        gate
    }

    async fn pass(&self, call: Call, when: When) {
        let gate = {
            let mut gates = self.gates.lock().unwrap();
            let at = gates
                .iter()
                .position(|(of, at, _)| (*of, *at) == (call, when));
            at.map(|at| gates.remove(at).2)
        };
        if let Some(gate) = gate {
            gate.pass().await;
        }
    }

    async fn through<T>(
        &self,
        call: Call,
        asked: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.calls.lock().unwrap().push(call);
        self.pass(call, When::Before).await;
        let reply = asked.await;
        self.pass(call, When::After).await;
        let mut lost = self.lost.lock().unwrap();
        match lost.iter().position(|of| *of == call) {
            None => reply,
            Some(at) => {
                lost.remove(at);
                Err(StoreError::TimedOut {
                    address: "gated".to_owned(),
                    after: Duration::ZERO,
                })
            }
        }
    }
}

#[async_trait]
impl Lanes for Gated {
    fn lanes(&self) -> u16 {
        self.inner.lanes()
    }

    fn lane(&self, key: &str) -> LaneIndex {
        self.inner.lane(key)
    }

    fn lane_state(&self, lane: LaneIndex) -> LaneState {
        self.inner.lane_state(lane)
    }

    fn subscribe(&self, listener: Weak<dyn PushListener>) {
        if !self.is_deaf {
            self.inner.subscribe(listener);
        }
    }

    fn stats(&self) -> RemoteStats {
        self.inner.stats()
    }
}

#[async_trait]
impl ValueStore for Gated {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.through(Call::Get, self.inner.get(key)).await
    }

    async fn get_with_ttl(&self, key: &str, track: Track) -> Result<Option<Stored>, StoreError> {
        self.through(Call::Get, self.inner.get_with_ttl(key, track))
            .await
    }

    async fn get_many(
        &self,
        lane: LaneIndex,
        keys: &[&str],
        want: Want,
        track: Track,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        self.through(Call::GetMany, self.inner.get_many(lane, keys, want, track))
            .await
    }

    async fn holds(&self, key: &str, digest: &Digest) -> Result<bool, StoreError> {
        self.through(Call::Holds, self.inner.holds(key, digest))
            .await
    }

    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        self.through(Call::Invalidate, self.inner.invalidate(key, own))
            .await
    }

    async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        self.through(Call::Clear, self.inner.clear(prefix)).await
    }
}

#[async_trait]
impl LeaseStore for Gated {
    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Claim, StoreError> {
        self.through(
            Call::Claim,
            self.inner.claim(key, token, lease, replacing, track),
        )
        .await
    }

    async fn begin_write(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
    ) -> Result<WriteClaim, StoreError> {
        self.through(Call::BeginWrite, self.inner.begin_write(key, token, lease))
            .await
    }

    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError> {
        self.inner.renew(key, token, lease).await
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
        self.through(
            Call::Commit,
            self.inner.commit(key, token, value, ttl, replacing, track),
        )
        .await
    }

    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
        track: Track,
    ) -> Result<Committed, StoreError> {
        self.through(Call::Commit, self.inner.touch(key, token, kept, ttl, track))
            .await
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError> {
        self.inner.release(key, token).await
    }
}

#[async_trait]
impl TagStore for Gated {
    async fn tag_epoch(&self, lane: LaneIndex) -> Result<TagEpoch, StoreError> {
        self.inner.tag_epoch(lane).await
    }

    async fn tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        self.through(Call::Tags, self.inner.tags(lane, tags)).await
    }

    async fn pin_tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
        epoch: TagEpoch,
        ttl: Duration,
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        self.through(Call::HoldTags, self.inner.pin_tags(lane, tags, epoch, ttl))
            .await
    }

    async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, StoreError> {
        self.through(Call::InvalidateTag, self.inner.invalidate_tag(tag))
            .await
    }
}

/// A process whose store is gated, and its cache `item`.
pub(crate) async fn gated(world: &World) -> (Arc<Gated>, Larder, Items) {
    let store = Gated::new(world.store().await);
    let (larder, items) = process_of(builder().remote_store(store.clone())).await;
    (store, larder, items)
}

/// Like [`gated`], with one policy; returns its cache.
pub(crate) async fn gated_cache(world: &World, policy: &PolicyBuilder) -> (Arc<Gated>, Items) {
    let store = Gated::new(world.store().await);
    let cache = cache_on(store.clone(), policy).await;
    (store, cache)
}
