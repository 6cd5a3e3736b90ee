use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{
    AnyValue, Clock, Entry, Generations, Key, KeyBuf, KeyRef, Life, LocalStore, Phase, Stamp, StoreError,
    TagStamp, Tags,
};
use larder_lock::{Leases, LoadLimits, Present, StampedeLock};
use larder_ttl::{OnOutage, Policy};
use tokio::task::AbortHandle;
use tracing::warn;

use crate::{
    CacheKey, Error, Loaded,
    coherence::{Coherence, invalidate_locally},
    encoding::{Value, encode},
    events::{Hook, Level},
    l1::L1,
    life::LastLoad,
    outbox::Replays,
    stats::{Count, Counters},
    tags::Sealed,
    value::Content,
};

/// What all policies of a larder share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) generations: Arc<Generations>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) clock: Clock,
    pub(crate) l1: Arc<L1>,
    pub(crate) leases: Option<Leases>,
    /// The largest encoded value that is sent to L2, in bytes.
    pub(crate) max_value_size: usize,
    /// Whether L1 is bounded by bytes, so that every entry's size must be known.
    pub(crate) weighs: bool,
    /// The remote store knows its listener weakly; this keeps it alive, also for a cache that outlives its larder.
    pub(crate) _coherence: Option<Arc<Coherence>>,
    pub(crate) hook: Option<Hook>,
    pub(crate) housekeeping: AbortHandle,
    pub(crate) replays: Replays,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.housekeeping.abort();
    }
}

/// A policy of the TTL table at work: its policy, its flights and its counts, for one type of value.
pub(crate) struct RowState<T> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) policy: Policy,
    pub(crate) prefix: String,
    /// What all its keys begin with.
    pub(crate) stem: KeyBuf,
    pub(crate) namespace: u16,
    /// Set where this policy has an L2.
    pub(crate) leases: Option<Leases>,
    pub(crate) has_l1: bool,
    pub(crate) lock: StampedeLock<Outcome<T>>,
    pub(crate) counters: Arc<Counters>,
    /// A copy of the shared one, so that a hit need not go there.
    pub(crate) hook: Option<Hook>,
    pub(crate) last_load: LastLoad,
    pub(crate) warned: Warned,
}

/// What a read or load comes to.
pub(crate) type Outcome<T> = Result<Found<T>, Error>;

/// A value, or the knowledge that there is none, with what its loader said of it.
pub(crate) struct Found<T> {
    pub(crate) value: Option<Arc<T>>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Option<Arc<[Box<str>]>>,
    /// Whether it is what was there before, which the database still has.
    pub(crate) is_renewed: bool,
    /// By what L2 knows it, if it was found there and may be renewed.
    pub(crate) stored: Option<Arc<Sealed>>,
}

impl<T> Found<T> {
    /// A value, or the knowledge that there is none, without anything special.
    pub(crate) fn plain(value: Option<Arc<T>>) -> Self {
        Self { value, ttl: None, tags: None, is_renewed: false, stored: None }
    }

    pub(crate) fn tags(&self) -> &[Box<str>] {
        self.tags.as_deref().unwrap_or_default()
    }
}

impl<T> From<Loaded<T>> for Found<T> {
    fn from(Loaded { content, ttl, tags }: Loaded<T>) -> Self {
        let is_renewed = matches!(content, Content::NotModified);
        let value = match content {
            Content::Value(value) => Some(Arc::new(value)),
            Content::Absent | Content::NotModified => None,
        };
        let tags = (!tags.is_empty()).then(|| tags.into());
        Self { value, ttl, tags, is_renewed, stored: None }
    }
}

impl<T> Clone for Found<T> {
    fn clone(&self) -> Self {
        let Self { value, ttl, tags, is_renewed, stored } = self;
        Self {
            value: value.clone(),
            ttl: *ttl,
            tags: tags.clone(),
            is_renewed: *is_renewed,
            stored: stored.clone(),
        }
    }
}

/// What L1 has.
pub(crate) struct Cached<T> {
    pub(crate) value: Option<Arc<T>>,
    pub(crate) phase: Phase,
    pub(crate) stamp: Stamp,
    pub(crate) tags: Option<Arc<TagStamp>>,
}

impl<T> Cached<T> {
    pub(crate) fn present(self) -> Present<Outcome<T>> {
        let Self { value, phase, stamp, tags } = self;
        Present { value: Ok(Found::plain(value)), phase, stamp, tags, digest: None }
    }
}

/// What has been logged already: each kind of trouble is said once for each policy, and counted always.
#[derive(Debug, Default)]
pub(crate) struct Warned {
    undecodable: AtomicBool,
    unstorable: AtomicBool,
    refused: AtomicBool,
}

fn first(flag: &AtomicBool) -> bool {
    !flag.swap(true, Ordering::Relaxed) // Relaxed: it orders nothing
}

impl<T: Value> RowState<T> {
    pub(crate) fn new(shared: Arc<Shared>, row: &Policy, namespace: u16, counters: Arc<Counters>) -> Self {
        let leases = shared.leases.clone().filter(|_| row.levels().has_l2());
        let limits = LoadLimits {
            lease: row.lease(),
            load_timeout: row.load_timeout(),
            max_wait: row.max_wait(),
            soft_timeout: row.soft_timeout(),
            max_loads: row.max_loads(),
            needs_remote: row.on_outage() == OnOutage::Fail,
        };
        Self {
            lock: StampedeLock::new(leases.clone(), shared.generations.clone(), namespace, limits),
            // A larder without L2 keeps every policy in the one level that it has.
            has_l1: row.levels().has_l1() || shared.leases.is_none(),
            stem: KeyBuf::begin(&row.key_prefix()),
            prefix: row.key_prefix(),
            policy: row.clone(),
            hook: shared.hook.clone(),
            shared,
            namespace,
            leases,
            counters,
            last_load: LastLoad::default(),
            warned: Warned::default(),
        }
    }

    pub(crate) fn key<K: CacheKey + ?Sized>(&self, key: &K) -> KeyBuf {
        KeyBuf::format(&self.prefix, key)
    }

    /// Looks into L1: the value that it has fresh, or else what it has.
    #[inline]
    pub(crate) fn fresh(&self, key: KeyRef<'_>) -> Result<Option<Arc<T>>, Option<Cached<T>>> {
        if !self.has_l1 {
            return Err(None);
        }
        let looked = self.shared.l1.look(key, |entry, phase| {
            let value = match entry.value.take() {
                None => None,
                // A policy holds one type only, so the cast always succeeds; were it not so, it would be a miss.
                Some(value) => Some(value.downcast().map_err(|_| None)?),
            };
            match phase {
                Phase::Fresh => Ok(value),
                _ => Err(Some(Cached { value, phase, stamp: entry.stamp, tags: entry.tags.take() })),
            }
        });
        looked.unwrap_or(Err(None))
    }

    /// Looks into L1 again, after [`fresh`](Self::fresh), whatever the phase of what it has.
    pub(crate) fn cached(&self, key: KeyRef<'_>) -> Option<Cached<T>> {
        if !self.has_l1 {
            return None;
        }
        let (Entry { value, stamp, tags, .. }, phase) = self.shared.l1.get_uncounted(key)?;
        let value = match value {
            None => None,
            Some(value) => Some(value.downcast().ok()?),
        };
        Some(Cached { value, phase, stamp, tags })
    }

    /// Counts a hit in L1, and tells of it.
    #[inline]
    pub(crate) fn note_hit(&self, key: &KeyBuf) {
        self.counters.add(Count::L1Hit);
        if self.hook.is_some() {
            self.tell_hit(key.as_str(), Level::L1);
        }
    }

    pub(crate) fn stamp(&self, key: &Key) -> Stamp {
        self.shared.generations.stamp(key.hash(), self.lane(key), self.namespace)
    }

    pub(crate) fn invalidate_locally(&self, key: &Key) {
        invalidate_locally(&self.shared.generations, &self.shared.l1, key.as_ref());
    }

    pub(crate) fn lane(&self, key: &Key) -> u16 {
        self.leases.as_ref().map_or(Generations::NO_LANE, |leases| leases.remote().lane(key.as_str()))
    }

    /// Keeps a value in L1, if this policy has one. `size` is that of its encoded form, where it is known.
    pub(crate) fn keep(
        &self,
        key: &Key,
        value: Option<&Arc<T>>,
        life: Life,
        stamp: Stamp,
        tags: Option<Arc<TagStamp>>,
        size: Option<usize>,
    ) {
        if !self.has_l1 {
            return;
        }
        let size = match (self.shared.weighs, size, value) {
            (false, ..) | (_, None, None) => 0,
            (true, Some(size), _) => size,
            (true, None, Some(value)) => {
                let mut bytes = Vec::new();
                match encode(Some(&**value), &mut bytes) {
                    Ok(()) => bytes.len(),
                    // Nobody can tell how much of the L1 it would take.
                    Err(source) => {
                        return self.note_unstorable(&Error::Encode { key: key.to_string(), source });
                    }
                }
            }
        };
        /// What an entry takes beside its key and value, about.
        const OVERHEAD: usize = 200;
        let weight = u32::try_from(size + key.as_str().len() + OVERHEAD).unwrap_or(u32::MAX);
        let value = value.map(|value| value.clone() as AnyValue);
        self.shared.l1.insert(key, Entry { value, life, stamp, tags, weight });
    }

    pub(crate) fn note_undecodable(&self, key: &Key, reason: &dyn fmt::Display) {
        self.counters.add(Count::Undecodable);
        if first(&self.warned.undecodable) {
            warn!(policy = self.policy.name(), %key, %reason,
                "a value in L2 cannot be read and is loaded anew; further ones of this row are only counted");
        }
    }

    /// A value is kept nowhere: somebody wrote or invalidated meanwhile.
    pub(crate) fn note_refused(&self, key: &Key) {
        self.counters.add(Count::Refused);
        self.tell_refused(key);
    }

    pub(crate) fn note_unstorable(&self, reason: &Error) {
        self.counters.add(Count::Unstorable);
        if first(&self.warned.unstorable) {
            warn!(policy = self.policy.name(), %reason,
                "a value is served but not kept; further ones of this row are only counted");
        }
    }

    pub(crate) fn note_remote(&self, error: &StoreError) {
        self.counters.add(Count::L2Error);
        // A lost connection is logged where it is lost; what the server refuses is the policy's own trouble.
        if matches!(error, StoreError::WrongType { .. } | StoreError::Refused { .. })
            && first(&self.warned.refused)
        {
            warn!(policy = self.policy.name(), %error,
                "L2 refuses, reads go to the loader; further refusals of this row are only counted");
        }
    }
}

impl<T> fmt::Debug for RowState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowState").field("row", &self.policy.name()).finish_non_exhaustive()
    }
}
