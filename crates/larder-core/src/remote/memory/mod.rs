mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use self::state::{Holder, Kind, LANE, Lease, State, is_as_found, many};
use super::{
    Lanes, LeaseStore, TagStore, ValueStore,
    types::{
        Claim, Committed, Invalidated, LaneState, Push, PushListener, RemoteEvent, RemoteStats,
        Replacing, Stored, Track, WriteClaim,
    },
};
use crate::{
    clock::{Clock, Moment},
    digest::Digest,
    error::StoreError,
    generations::LaneIndex,
    key::owned::Key,
    sync::lock,
    tags::TagEpoch,
    token::Token,
};

/// A remote store in memory, for tests without a server.
///
/// It has values, leases, tracking and pushes as the protocol has them. Each
/// [`connect`](Self::connect) stands for one process.
///
/// # Examples
/// ```
/// use larder_core::{Clock, MemoryServer};
///
/// let server = MemoryServer::new(Clock::system());
/// let (_one, other) = (server.connect(), server.connect()); // two processes
///
/// server.write("user:42", "\"Ada\"", None);
/// assert_eq!(server.read("user:42").as_deref(), Some(b"\"Ada\"".as_slice()));
/// other.disconnect(); // its calls fail, and its invalidations are remembered
/// other.reconnect();
/// ```
#[derive(Clone, Debug)]
pub struct MemoryServer {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

/// One process's connection to a [`MemoryServer`]: a [`RemoteStore`](crate::RemoteStore) with a
/// single lane.
#[derive(Debug)]
pub struct MemoryRemote {
    server: MemoryServer,
    id: u64,
    down: AtomicBool,
    /// Invalidations that could not be sent, with the lease that ends with each.
    unsent: Mutex<BTreeMap<String, Option<Token>>>,
    unsent_tags: Mutex<BTreeSet<String>>,
}

impl MemoryServer {
    /// Makes an empty server, whose entries expire by this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            state: Arc::default(),
        }
    }

    /// Connects one more process.
    pub fn connect(&self) -> MemoryRemote {
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        drop(state);
        MemoryRemote {
            server: self.clone(),
            id,
            down: AtomicBool::new(false),
            unsent: Mutex::default(),
            unsent_tags: Mutex::default(),
        }
    }

    /// Writes a value as a foreign program would, without any lease. With `None` it has no end.
    pub fn write(&self, key: &str, value: impl Into<Bytes>, ttl: Option<Duration>) {
        let until = ttl.map_or(Moment::NEVER, |ttl| self.clock.now() + ttl);
        let mut state = self.state();
        state.values.insert(key.to_owned(), (value.into(), until));
        state.push(Kind::Value, key);
    }

    /// Deletes a value as a foreign program would.
    pub fn delete(&self, key: &str) {
        let mut state = self.state();
        if state.values.remove(key).is_some() {
            state.push(Kind::Value, key);
        }
    }

    /// Takes away the lease of a key, as a server may do that is short of memory.
    pub fn evict_lease(&self, key: &str) {
        self.state().end_lease(key);
    }

    /// Takes away the pin of a tag, as a server may do that is short of memory.
    pub fn evict_tag(&self, tag: &str) {
        let mut state = self.state();
        if state.tags.remove(tag).is_some() {
            state.push(Kind::Tag, tag);
        }
    }

    /// Empties the server, and tells every connection.
    pub fn flush(&self) {
        let mut state = self.state();
        state.values.clear();
        state.leases.clear();
        state.tags.clear();
        state.epoch.0 += 1; // it never goes back
        state.tracking.clear();
        let connected: Vec<u64> = state.listeners.keys().copied().collect();
        connected
            .into_iter()
            .for_each(|id| state.tell(id, Push::Lane(LANE)));
    }

    /// Reads a value as a foreign program would, without being tracked.
    pub fn read(&self, key: &str) -> Option<Bytes> {
        let now = self.clock.now();
        self.state().value(key, now).map(|stored| stored.value)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl MemoryRemote {
    /// Cuts the connection: calls fail at once, pushes are lost, invalidations are remembered.
    pub fn disconnect(&self) {
        self.down.store(true, Ordering::Release);
        let mut state = self.server.state();
        state.tracking.values_mut().for_each(|readers| {
            readers.remove(&self.id);
        });
        state.tell(self.id, Push::Lane(LANE));
    }

    /// Restores the connection, after the remembered invalidations have been done.
    pub fn reconnect(&self) {
        let mut state = self.server.state();
        let unsent = std::mem::take(&mut *lock(&self.unsent));
        for (key, own) in &unsent {
            state.invalidate(key, own.as_ref());
        }
        let tags = std::mem::take(&mut *lock(&self.unsent_tags));
        tags.iter().for_each(|tag| state.invalidate_tag(tag));
        let count = many(unsent.len() + tags.len());
        if count > 0 {
            state.tell_event(self.id, RemoteEvent::Resent { count });
        }
        state.tell(self.id, Push::Lane(LANE));
        self.down.store(false, Ordering::Release);
    }

    fn up(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.server.state();
        if self.down.load(Ordering::Acquire) {
            return Err(StoreError::Unreachable {
                address: "memory".to_owned(),
                source: None,
            });
        }
        Ok(state)
    }
}

#[async_trait]
impl Lanes for MemoryRemote {
    fn lanes(&self) -> u16 {
        1
    }

    fn lane(&self, _key: &str) -> LaneIndex {
        LANE
    }

    fn lane_state(&self, _lane: LaneIndex) -> LaneState {
        if self.down.load(Ordering::Acquire) {
            LaneState::Down
        } else {
            LaneState::Tracking
        }
    }

    fn subscribe(&self, listener: Weak<dyn PushListener>) {
        self.server
            .state()
            .listeners
            .entry(self.id)
            .or_default()
            .push(listener);
    }

    fn stats(&self) -> RemoteStats {
        let unsent = many(lock(&self.unsent).len() + lock(&self.unsent_tags).len());
        RemoteStats {
            unsent,
            ..RemoteStats::default()
        }
    }
}

#[async_trait]
impl ValueStore for MemoryRemote {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let stored = self.get_with_ttl(key, Track::Nothing).await?;
        Ok(stored.map(|stored| stored.value))
    }

    async fn get_with_ttl(&self, key: &str, track: Track) -> Result<Option<Stored>, StoreError> {
        let mut state = self.up()?;
        let stored = state.value(key, self.server.clock.now());
        // P33 only-kept-is-tracked: not what is not there
        if track == Track::Value && stored.is_some() {
            state.track(Kind::Value, key, self.id);
        }
        Ok(stored)
    }

    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError> {
        // to the end, so that a reconnection comes before or after
        let mut state = self.server.state();
        if self.down.load(Ordering::Acquire) {
            let mut unsent = lock(&self.unsent);
            let ends = unsent.entry(key.as_str().to_owned()).or_default();
            *ends = ends.take().or_else(|| own.cloned());
            state.tell_event(
                self.id,
                RemoteEvent::Unsent {
                    count: many(unsent.len()),
                },
            );
            return Ok(Invalidated::Deferred);
        }
        state.invalidate(key.as_str(), own);
        Ok(Invalidated::Done)
    }

    async fn clear(&self, prefix: &str) -> Result<u64, StoreError> {
        let mut state = self.up()?;
        let of_prefix = |keys: Vec<String>| keys.into_iter().filter(|key| key.starts_with(prefix));
        for key in of_prefix(state.leases.keys().cloned().collect()) {
            state.invalidate(&key, None);
        }
        let mut cleared = 0;
        for key in of_prefix(state.values.keys().cloned().collect()) {
            state.invalidate(&key, None);
            cleared += 1;
        }
        Ok(cleared)
    }
}

#[async_trait]
impl LeaseStore for MemoryRemote {
    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Claim, StoreError> {
        let mut state = self.up()?;
        let now = self.server.clock.now();
        let stored = state.value(key, now);
        if let Some(stored) = stored.filter(|stored| !is_as_found(Some(stored), replacing)) {
            if track == Track::Value {
                state.track(Kind::Value, key, self.id);
            }
            return Ok(Claim::Hit(stored));
        }
        if let Some(held) = state.lease(key, now) {
            let rest = held.until.since(now);
            state.track(Kind::Lease, key, self.id);
            return Ok(Claim::Busy(rest));
        }
        let held = Lease {
            token: token.clone(),
            until: now + lease,
            holder: Holder::Reader,
        };
        state.leases.insert(key.to_owned(), held);
        state.push(Kind::Lease, key);
        Ok(Claim::Leased)
    }

    async fn begin_write(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
    ) -> Result<WriteClaim, StoreError> {
        let mut state = self.up()?;
        let now = self.server.clock.now();
        if let Some(held) = state
            .lease(key, now)
            .filter(|held| held.holder != Holder::Reader)
        {
            let rest = held.until.since(now);
            state.track(Kind::Lease, key, self.id);
            return Ok(WriteClaim::Busy(rest));
        }
        state.delete_value(key);
        let held = Lease {
            token: token.clone(),
            until: now + lease,
            holder: Holder::Writer,
        };
        state.leases.insert(key.to_owned(), held);
        state.push(Kind::Lease, key);
        Ok(WriteClaim::Leased)
    }

    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError> {
        let mut state = self.up()?;
        let now = self.server.clock.now();
        let held = state.lease(key, now).filter(|held| held.token == *token);
        Ok(held.map(|held| held.until = now + lease).is_some())
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
        let mut state = self.up()?;
        let now = self.server.clock.now();
        let Some(held) = state.lease(key, now).filter(|held| held.token == *token) else {
            return Ok(Committed::Refused);
        };
        let clean = held.holder != Holder::DirtyWriter;
        state.end_lease(key);
        let found = state.value(key, now);
        if !clean || !is_as_found(found.as_ref(), replacing) {
            return Ok(Committed::Refused);
        }
        if track == Track::Value {
            state.track(Kind::Value, key, self.id);
        }
        state
            .values
            .insert(key.to_owned(), (Bytes::copy_from_slice(value), now + ttl));
        state.push(Kind::Value, key);
        if track == Track::Nothing {
            return Ok(Committed::Stored);
        }
        state.track(Kind::Value, key, self.id); // P4 l1-read-from-l2
        Ok(Committed::Tracked { told: true })
    }

    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
        track: Track,
    ) -> Result<Committed, StoreError> {
        let found = self
            .get(key)
            .await?
            .filter(|found| Digest::of(found) == *kept);
        let Some(found) = found else {
            return self.release(key, token).await.map(|_| Committed::Refused);
        };
        // Atomic all the same: the commit looks at the value again.
        self.commit(key, token, &found, ttl, Replacing::Value(kept), track)
            .await
    }

    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError> {
        let mut state = self.up()?;
        let now = self.server.clock.now();
        let Some(held) = state.lease(key, now).filter(|held| held.token == *token) else {
            return Ok(false);
        };
        let clean = held.holder != Holder::DirtyWriter;
        state.end_lease(key);
        Ok(clean)
    }
}

#[async_trait]
impl TagStore for MemoryRemote {
    async fn tag_epoch(&self, _lane: LaneIndex) -> Result<TagEpoch, StoreError> {
        let mut state = self.up()?;
        state.track(Kind::Tag, "", self.id);
        Ok(state.epoch)
    }

    async fn tags(
        &self,
        _lane: LaneIndex,
        tags: &[&str],
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        let mut state = self.up()?;
        let now = self.server.clock.now();
        Ok(tags
            .iter()
            .map(|tag| state.tag(tag, now, self.id))
            .collect())
    }

    async fn pin_tags(
        &self,
        _lane: LaneIndex,
        tags: &[&str],
        epoch: TagEpoch,
        ttl: Duration,
    ) -> Result<Vec<Option<TagEpoch>>, StoreError> {
        let mut state = self.up()?;
        let until = self.server.clock.now() + ttl;
        let now = self.server.clock.now();
        for tag in tags {
            if let Some((_, end)) = state.tags.get_mut(*tag).filter(|(_, end)| *end > now) {
                *end = until.max(*end);
            } else if state.epoch == epoch {
                state.tags.insert((*tag).to_owned(), (epoch, until));
                state.push(Kind::Tag, tag);
            }
        }
        Ok(tags
            .iter()
            .map(|tag| state.tag(tag, now, self.id))
            .collect())
    }

    async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, StoreError> {
        // to the end, so that a reconnection comes before or after
        let mut state = self.server.state();
        if self.down.load(Ordering::Acquire) {
            let mut unsent = lock(&self.unsent_tags);
            unsent.insert(tag.to_owned());
            state.tell_event(
                self.id,
                RemoteEvent::Unsent {
                    count: many(unsent.len()),
                },
            );
            return Ok(Invalidated::Deferred);
        }
        state.invalidate_tag(tag);
        Ok(Invalidated::Done)
    }
}
