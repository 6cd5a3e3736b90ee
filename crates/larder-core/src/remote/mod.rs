//! The level that processes share, L2: its traits by role, and an implementation in memory.

pub(crate) mod memory;
pub(crate) mod types;

use std::{fmt::Debug, sync::Weak, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use self::types::{
    Claim, Committed, Invalidated, LaneState, PushListener, RemoteStats, Replacing, Stored, Track,
    Want, WriteClaim,
};
use crate::{
    digest::Digest, error::StoreError, generations::LaneIndex, key::owned::Key, tags::TagEpoch,
    token::Token,
};

/// A store that several processes share, the L2. It is all of its roles together:
///
/// | role | its methods |
/// | --- | --- |
/// | [`Lanes`] | the state of the connections, and the pushes that come over them |
/// | [`ValueStore`] | values and their invalidation |
/// | [`LeaseStore`] | the right to fill a key, or to write behind it |
/// | [`TagStore`] | the invalidation of many entries by a name that they share |
///
/// A type that implements the four roles implements this trait. Every call is one atomic step in
/// the store. A store rounds a `Duration` down to whole milliseconds, and to at least one.
/// `larder-testkit` has the suite that every implementation must pass.
/// [`MemoryRemote`](crate::MemoryRemote) is an implementation to read, and for tests without a
/// server.
///
/// # Cancellation
/// A call may take effect although its future was dropped. A caller that must know runs the call in
/// a task of its own.
///
/// # Errors
/// Every call fails with [`StoreError::Unreachable`] at once while the key's lane is down, with
/// [`StoreError::TimedOut`] if no answer came, and with [`StoreError::Refused`] or
/// [`StoreError::WrongType`] if the server refused it. An error leaves open whether the call has
/// taken effect, or still will.
pub trait RemoteStore: Lanes + ValueStore + LeaseStore + TagStore {}

impl<S: Lanes + ValueStore + LeaseStore + TagStore> RemoteStore for S {}

/// The connections of a [`RemoteStore`]: its lanes, and the pushes that come over them.
///
/// # Examples
/// ```
/// use std::sync::{Arc, Mutex, Weak};
/// use larder_core::{Clock, LaneIndex, LaneState, Lanes, MemoryServer, Push, PushListener};
///
/// #[derive(Default)]
/// struct Heard(Mutex<Vec<String>>);
///
/// impl PushListener for Heard {
///     fn on_push(&self, push: Push<'_>) {
///         self.0.lock().unwrap().push(format!("{push:?}"));
///     }
/// }
///
/// let store = MemoryServer::new(Clock::system()).connect();
/// let heard = Arc::new(Heard::default());
/// let listener: Weak<dyn PushListener> = Arc::downgrade(&heard) as _;
/// store.subscribe(listener);
///
/// assert_eq!(store.lane_state(store.lane("user:42")), LaneState::Tracking);
/// store.disconnect();
/// assert_eq!(*heard.0.lock().unwrap(), [format!("{:?}", Push::Lane(LaneIndex(0)))]);
/// ```
#[async_trait]
pub trait Lanes: Debug + Send + Sync + 'static {
    /// The number of lanes, at least one. It never changes.
    fn lanes(&self) -> u16;

    /// The lane that every call for this key takes. It never changes.
    fn lane(&self, key: &str) -> LaneIndex;

    /// The present state of a lane.
    fn lane_state(&self, lane: LaneIndex) -> LaneState;

    /// Adds a listener to pushes.
    ///
    /// Where the server does not push, a store does not report its own writes. So two caches on one
    /// store do not hear of each other: give each a store of its own.
    fn subscribe(&self, listener: Weak<dyn PushListener>);

    /// The longest time of a call, after which it fails. `None`, the default: not known.
    fn call_timeout(&self) -> Option<Duration> {
        None
    }

    /// Reads the server's settings, and returns a remedy for each that hurts a cache.
    ///
    /// By default there are none.
    async fn advice(&self) -> Vec<String> {
        Vec::new()
    }

    /// Counters of the connections. All are zero in a store that has none.
    fn stats(&self) -> RemoteStats {
        RemoteStats::default()
    }

    /// Names the beginning of keys that this process uses, such as `user:`. If the server comes
    /// back with older data, and the store cannot tell what it forgot, the store clears these keys.
    ///
    /// By default it does nothing.
    fn clear_on_data_loss(&self, prefix: &str) {
        let _ = prefix;
    }

    /// Connects again, if the runtime has ended that drove the connections. Waits for that no
    /// longer than for the answer to a call.
    ///
    /// Every call does so by itself. This is for a caller that first looks at the
    /// [state](Self::lane_state) of a lane. By default it does nothing.
    async fn resume(&self) {}

    /// Ends the store's tasks, before the process ends. The caller makes no call afterwards.
    ///
    /// By default it does nothing.
    fn close(&self) {}
}

/// The values of a [`RemoteStore`].
///
/// # Examples
/// ```
/// use larder_core::{Clock, Invalidated, Key, MemoryServer, ValueStore};
/// # use futures_util::FutureExt;
/// # async {
/// let server = MemoryServer::new(Clock::system());
/// server.write("user:42", "\"Ada\"", None); // as another program would
///
/// let store = server.connect();
/// assert_eq!(store.get("user:42").await?.as_deref(), Some(b"\"Ada\"".as_slice()));
///
/// let key = Key::from_stored_name("user:42");
/// assert_eq!(store.invalidate(&key, None).await?, Invalidated::Done);
/// assert_eq!(store.get("user:42").await?, None);
/// # Ok::<(), larder_core::StoreError>(()) }.now_or_never().unwrap()?;
/// # Ok::<(), larder_core::StoreError>(())
/// ```
#[async_trait]
pub trait ValueStore: Send + Sync + 'static {
    /// Reads a value, for a caller that hands it on at once: the lane need not track it.
    ///
    /// An empty value, which no codec writes, may count as none.
    async fn get(&self, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Reads a value and the rest of its life in one round trip. With [`Track::Value`], the lane
    /// tracks the key from now on if there is a value. If there is none, it need not.
    async fn get_with_ttl(&self, key: &str, track: Track) -> Result<Option<Stored>, StoreError>;

    /// Reads many values of one lane, in as few round trips as the store can. Tracks the keys like
    /// [`get_with_ttl`](Self::get_with_ttl).
    ///
    /// Where a key holds something that is no value, the answer is `None`, and a
    /// [`claim`](LeaseStore::claim) tells why. By default the keys are read one after the other.
    async fn get_many(
        &self,
        _lane: LaneIndex,
        keys: &[&str],
        want: Want,
        track: Track,
    ) -> Result<Vec<Option<Stored>>, StoreError> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let stored = match (want, track) {
                (Want::Value, Track::Nothing) => {
                    let value = self.get(key).await;
                    value.map(|value| value.map(|value| Stored { value, ttl: None }))
                }
                _ => self.get_with_ttl(key, track).await,
            };
            found.push(match stored {
                Err(StoreError::WrongType { .. }) => None,
                stored => stored?,
            });
        }
        Ok(found)
    }

    /// Tells whether the value is the one with this digest. If so, the lane tracks it from now on.
    async fn holds(&self, key: &str, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self
            .get_with_ttl(key, Track::Value)
            .await?
            .is_some_and(|stored| Digest::of(&stored.value) == *digest))
    }

    /// Deletes the value and a reader's lease, and marks another writer's lease.
    ///
    /// A marked lease refuses its commit. The lease named by `own`, which the caller gives up with
    /// this call, is deleted too.
    ///
    /// If the lane is down or is lost meanwhile, or if the server refuses for now, the store
    /// remembers the key. It then invalidates the key before any caller reads through the lane
    /// again. A store that has too many keys to remember may remember the key's
    /// [prefix](Key::prefix) instead, and clear it.
    ///
    /// # Errors
    /// [`StoreError::WrongType`], and [`StoreError::Refused`] if the store's user may not do this.
    /// [`StoreError::TooManyUnsent`] if the store could neither send nor remember the invalidation.
    async fn invalidate(&self, key: &Key, own: Option<&Token>) -> Result<Invalidated, StoreError>;

    /// Invalidates every key that begins with `prefix`, and returns how many values there were.
    ///
    /// First it ends every lease, so that no load that began before can commit. Then it deletes
    /// every value. It is not atomic as a whole.
    async fn clear(&self, prefix: &str) -> Result<u64, StoreError>;
}

/// The leases of a [`RemoteStore`]: time-limited rights to fill a key, or to write behind it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use larder_core::{Claim, Clock, LeaseStore, MemoryServer, Replacing, Token, Track};
/// # use futures_util::FutureExt;
/// # async {
/// const MINUTE: Duration = Duration::from_secs(60);
/// let server = MemoryServer::new(Clock::system());
/// let (one, other) = (server.connect(), server.connect()); // two processes
/// let (token, new, track) = (Token::new(), Replacing::Nothing, Track::Value);
///
/// // The first process may load. The other one waits until it hears that the lease has ended.
/// assert_eq!(one.claim("user:42", &token, MINUTE, new, track).await?, Claim::Leased);
/// let claim = other.claim("user:42", &Token::new(), MINUTE, new, track).await?;
/// assert!(matches!(claim, Claim::Busy(_)));
///
/// let committed = one.commit("user:42", &token, b"1", MINUTE, new, track).await?;
/// assert!(committed.is_done());
/// let claim = other.claim("user:42", &Token::new(), MINUTE, new, track).await?;
/// assert!(matches!(claim, Claim::Hit(_)));
/// # Ok::<(), larder_core::StoreError>(()) }.now_or_never().unwrap()?;
/// # Ok::<(), larder_core::StoreError>(())
/// ```
#[async_trait]
pub trait LeaseStore: Send + Sync + 'static {
    /// Asks for the right to fill the key.
    ///
    /// Returns the value, if there is one that is not to be replaced, and tracks it with
    /// [`Track::Value`]. Else takes the lease if it is free, or tells how long it is still held.
    /// The lane tracks a lease that another caller holds.
    async fn claim(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Claim, StoreError>;

    /// Asks for the right to write behind the key. Deletes the value, and takes the lease from any
    /// reader. The lane tracks a lease that another writer holds.
    async fn begin_write(
        &self,
        key: &str,
        token: &Token,
        lease: Duration,
    ) -> Result<WriteClaim, StoreError>;

    /// Extends a lease, also a marked one. `false` if it is lost.
    async fn renew(&self, key: &str, token: &Token, lease: Duration) -> Result<bool, StoreError>;

    /// Stores the value and gives up the lease.
    ///
    /// It stores only if the lease is still held and unmarked, and the value is as the claim found
    /// it. Every store that tracks the key gets a push, this one too, before the reply to its next
    /// call. With [`Track::Nothing`] the lane need not track the value, and the reply is not
    /// [`Committed::Tracked`].
    async fn commit(
        &self,
        key: &str,
        token: &Token,
        value: &[u8],
        ttl: Duration,
        replacing: Replacing<'_>,
        track: Track,
    ) -> Result<Committed, StoreError>;

    /// Gives the value with this digest a new life of `ttl`, and gives up the lease.
    ///
    /// It does so only if the lease is still held and unmarked, and the value is there. A `ttl` of
    /// zero removes the value. The pushes are as for [`commit`](Self::commit).
    async fn touch(
        &self,
        key: &str,
        token: &Token,
        kept: &Digest,
        ttl: Duration,
        track: Track,
    ) -> Result<Committed, StoreError>;

    /// Gives up a lease without storing anything.
    ///
    /// Returns whether it was still held and unmarked, so that no other caller wrote or invalidated
    /// the key since the claim.
    async fn release(&self, key: &str, token: &Token) -> Result<bool, StoreError>;
}

/// The tags of a [`RemoteStore`]: names that entries share, by which they are invalidated together.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use larder_core::{Clock, LaneIndex, MemoryServer, TagStore};
/// # use futures_util::FutureExt;
/// # async {
/// let store = MemoryServer::new(Clock::system()).connect();
/// let (lane, hour) = (LaneIndex(0), Duration::from_secs(3600));
///
/// let epoch = store.tag_epoch(lane).await?; // before the load
/// let pinned = store.pin_tags(lane, &["org:7"], epoch, hour).await?; // before the commit
/// assert_eq!(pinned, [Some(epoch)]);
///
/// store.invalidate_tag("org:7").await?;
/// assert_eq!(store.tags(lane, &["org:7"]).await?, [None]);
/// # Ok::<(), larder_core::StoreError>(()) }.now_or_never().unwrap()?;
/// # Ok::<(), larder_core::StoreError>(())
/// ```
#[async_trait]
pub trait TagStore: Send + Sync + 'static {
    /// Reads the tag epoch, which grows with each invalidation of any tag. The lane tracks it.
    async fn tag_epoch(&self, lane: LaneIndex) -> Result<TagEpoch, StoreError>;

    /// Reads the epoch under which each tag is pinned. `None` for a tag that is not. The lane
    /// tracks them.
    async fn tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
    ) -> Result<Vec<Option<TagEpoch>>, StoreError>;

    /// Pins tags for an entry of this epoch that is to live for `ttl`, in one atomic step.
    ///
    /// A tag that is not pinned becomes so if the tag epoch is still `epoch`. Returns the
    /// epochs that [`tags`](Self::tags) would return then. The lane tracks them.
    async fn pin_tags(
        &self,
        lane: LaneIndex,
        tags: &[&str],
        epoch: TagEpoch,
        ttl: Duration,
    ) -> Result<Vec<Option<TagEpoch>>, StoreError>;

    /// Invalidates a tag: raises the epoch and removes the tag's pin, so that no entry with the tag
    /// is valid.
    ///
    /// While every lane is down, the store remembers the tag. It then invalidates the tag before
    /// any caller reads through a lane again.
    ///
    /// # Errors
    /// Like [`ValueStore::invalidate`], but without [`StoreError::TooManyUnsent`]: with too many
    /// tags to remember, the store invalidates every tag.
    async fn invalidate_tag(&self, tag: &str) -> Result<Invalidated, StoreError>;
}
