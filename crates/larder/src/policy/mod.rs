//! A policy of the TTL table at work. Each part owns its fields.

mod levels;
mod lifetimes;
mod reporter;
mod tagging;

use std::{
    any::{TypeId, type_name},
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use larder_core::{
    AnyValue, Clock, Digest, Key, KeyBuf, Moment, PolicyIndex, Stamp, Tags, ValueHeader, Want,
};
use larder_lock::{Kept, LoadLimits, Nesting, StampedeConfig, StampedeLock, TagEpochs};
use larder_ttl::{OnOutage, Policy};

pub(crate) use self::{
    levels::{Levels, invalidate_locally},
    lifetimes::{Lifetimes, Span},
    reporter::Reporter,
    tagging::{PinnedTags, Tagging, Unpinned, policy_tag, tag_name},
};
use crate::{
    CacheKey, Error,
    observe::Count,
    runtime::Lifecycle,
    value::{CachedValue, ReadBack, StoredImage, Value, ValueCodec},
};

/// A policy of the TTL table at work: its levels, its flights and its numbers.
pub(crate) struct ActivePolicy {
    settings: Policy,
    /// The text before the colon with which all its keys begin.
    prefix: String,
    /// That text with its colon, ready to be copied and added to.
    pub(crate) stem: KeyBuf,
    pub(crate) index: PolicyIndex,
    pub(crate) levels: Levels,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) tagging: Tagging,
    pub(crate) reporter: Reporter,
    pub(crate) lock: StampedeLock<CachedValue, Error>,
    pub(crate) clock: Clock,
    size_limits: SizeLimits,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) nesting: Arc<Nesting>,
    read_back: ReadBack,
    types: OnceLock<Types>,
}

/// The parts of a policy, as they are before it works.
pub(crate) struct Parts {
    pub(crate) settings: Policy,
    /// The text before the colon with which all keys of the policy begin.
    pub(crate) prefix: String,
    /// Its place in the table.
    pub(crate) index: PolicyIndex,
    pub(crate) levels: Levels,
    pub(crate) tags: Arc<Tags>,
    pub(crate) reporter: Reporter,
    pub(crate) clock: Clock,
    pub(crate) size_limits: SizeLimits,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) nesting: Arc<Nesting>,
}

/// How large an encoded value may be, in bytes, and whether its size counts in L1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeLimits {
    /// The largest that is sent to L2.
    pub(crate) largest: usize,
    /// Whether L1 is bounded by bytes, so that every entry's size must be known.
    pub(crate) l1_is_weighed: bool,
}

/// The types for which the first cache of the policy was asked.
#[derive(Debug)]
struct Types {
    key: (TypeId, &'static str),
    value: (TypeId, &'static str),
    codec: ValueCodec,
}

impl ActivePolicy {
    /// Puts the parts together.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            settings,
            prefix,
            index,
            levels,
            tags,
            reporter,
            clock,
            size_limits,
            lifecycle,
            nesting,
        } = parts;
        let limits = LoadLimits {
            lease: settings.lease(),
            load_timeout: settings.load_timeout(),
            max_wait: settings.max_wait(),
            soft_timeout: settings.soft_timeout(),
            max_loads: settings.max_loads(),
            needs_remote: settings.on_outage() == OnOutage::Fail,
        };
        let lifetimes = Lifetimes::new(&settings);
        let needs_ttl = levels.has_l1() || lifetimes.depend_on_rest();
        let lock = StampedeLock::new(StampedeConfig {
            leases: levels.leases().cloned(),
            generations: levels.generations().clone(),
            policy: index,
            tags: Some(tags.clone()),
            clock: clock.clone(),
            limits,
            keeps_locally: levels.has_l1(),
            nesting: nesting.clone(),
            want: if needs_ttl {
                Want::ValueAndTtl
            } else {
                Want::Value
            },
        });
        let remote = levels.remote().cloned();
        Self {
            lock,
            lifetimes,
            tagging: Tagging::new(tags, remote, prefix.clone(), settings.instant_clear()),
            stem: KeyBuf::begin(&prefix),
            prefix,
            settings,
            index,
            levels,
            reporter,
            clock,
            size_limits,
            lifecycle,
            nesting,
            read_back: ReadBack::default(),
            types: OnceLock::new(),
        }
    }

    /// Decides on the types of the policy's keys and values, if that has not been done, and checks
    /// them.
    ///
    /// # Errors
    /// [`Error::KeyType`] or [`Error::PolicyType`] if the policy holds another type.
    pub(crate) fn hold<K: 'static, V: Value>(&self) -> Result<(), Error> {
        let held = self.types.get_or_init(|| {
            // With `instant_clear`, a tag does it.
            if let Some(remote) = self
                .levels
                .remote()
                .filter(|_| !self.tagging.instant_clear())
            {
                remote.clear_on_data_loss(&format!("{}:", self.prefix));
            }
            Types {
                key: (TypeId::of::<K>(), type_name::<K>()),
                value: (TypeId::of::<V>(), type_name::<V>()),
                codec: ValueCodec::of::<V>(),
            }
        });
        let name = || self.name().to_owned();
        if held.key.0 != TypeId::of::<K>() {
            return Err(Error::KeyType {
                name: name(),
                held: held.key.1,
                asked: type_name::<K>(),
            });
        }
        if held.value.0 != TypeId::of::<V>() {
            return Err(Error::PolicyType {
                name: name(),
                held: held.value.1,
                asked: type_name::<V>(),
            });
        }
        Ok(())
    }

    pub(crate) fn codec(&self) -> ValueCodec {
        self.types
            .get()
            .map_or(ValueCodec::NONE, |types| types.codec)
    }

    /// The policy as the TTL table has it.
    pub(crate) fn settings(&self) -> &Policy {
        &self.settings
    }

    pub(crate) fn name(&self) -> &str {
        self.reporter.policy()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn key<K: ?Sized>(&self, key: &(impl CacheKey<K> + ?Sized)) -> KeyBuf {
        KeyBuf::format(&self.prefix, key)
    }

    /// The bytes under which a value is stored, if they are within the limit.
    pub(crate) fn encode(
        &self,
        key: &Key,
        value: Option<&AnyValue>,
        header: Option<&ValueHeader<'_>>,
    ) -> Result<Vec<u8>, Error> {
        let wrong = |source| Error::Encode {
            key: key.to_string(),
            source,
        };
        let mut bytes = Vec::new();
        header
            .map_or(Ok(()), |header| header.write(&mut bytes))
            .map_err(wrong)?;
        let start = bytes.len();
        self.codec().encode(value, &mut bytes).map_err(wrong)?;
        if value.is_some() {
            self.read_back
                .check(self.codec(), &bytes[start..])
                .map_err(wrong)?;
        }
        let (size, limit) = (bytes.len(), self.size_limits.largest);
        if size > limit {
            return Err(Error::ValueTooLarge {
                key: key.to_string(),
                size,
                limit,
            });
        }
        Ok(bytes)
    }

    /// Encodes a value that L2 is to keep for `ttl`, and pins its tags. `None` if one of them was
    /// invalidated since these epochs were read, or may have been.
    pub(crate) async fn encode_and_pin(
        &self,
        key: &Key,
        value: &CachedValue,
        epochs: TagEpochs,
        ttl: Duration,
    ) -> Result<Option<(Vec<u8>, StoredImage)>, Error> {
        let names = self.tagging.names(key, value.tags())?;
        let image = |bytes: Vec<u8>, header: Option<&ValueHeader<'_>>| {
            let image = StoredImage::new(Digest::of(&bytes), bytes.len(), header);
            (bytes, image)
        };
        if names.is_empty() {
            return Ok(Some(image(
                self.encode(key, value.value.as_ref(), None)?,
                None,
            )));
        }
        let Some(epoch) = epochs.remote else {
            return Ok(None);
        };
        let tags = value.tags().iter().map(|tag| &**tag).collect();
        let header = ValueHeader {
            epoch,
            policy_tag: self.tagging.instant_clear(),
            tags,
        };
        let bytes = self.encode(key, value.value.as_ref(), Some(&header))?;
        match self
            .tagging
            .pin(self.levels.lane(key), &names, epoch, ttl)
            .await
        {
            Ok(true) => Ok(Some(image(bytes, Some(&header)))),
            Ok(false) => Ok(None),
            Err(error) => {
                self.reporter.remote_failed(&error);
                Ok(None)
            }
        }
    }

    /// Keeps a value in L1 that was loaded or written from `from` on. A value whose size must be
    /// known and cannot be is not kept.
    pub(crate) fn keep(
        &self,
        key: &Key,
        value: Option<&AnyValue>,
        (from, span, kept): (Moment, Span, Kept),
        stamp: Stamp,
        tags: PinnedTags,
        size: Option<usize>,
    ) {
        if !self.levels.has_l1() {
            return;
        }
        let size = match (self.size_limits.l1_is_weighed, size, value) {
            (false, ..) | (_, None, None) => 0,
            (true, Some(size), _) => size,
            (true, None, Some(value)) => match self.codec().size(value) {
                Ok(size) => size,
                Err(source) => {
                    let key = key.to_string();
                    return self.reporter.unstorable(&Error::Encode { key, source });
                }
            },
        };
        let life = self
            .lifetimes
            .life(from, span, kept, self.levels.lane_state(key));
        self.levels
            .keep(key, value.cloned(), life, stamp, tags, size);
    }

    /// Keeps in L1 a value that L2 has taken, if L2 still has it. `tracked` is the value's stamp if
    /// its commit has read it too.
    // P4 l1-read-from-l2: also a value that this process has stored there itself
    pub(crate) async fn keep_committed(
        &self,
        key: &Key,
        value: Option<&AnyValue>,
        image: &StoredImage,
        life: (Moment, Span),
        tracked: Option<Stamp>,
    ) {
        if !self.levels.has_l1() {
            return;
        }
        let tracked = tracked.filter(|stamp| self.levels.is_current(key, stamp));
        // The push for the commit itself is handled before the first answer is here: it is in the
        // way once at most, so two reads suffice.
        for stamp in [tracked, None, None]
            .into_iter()
            .skip(usize::from(tracked.is_none()))
        {
            let is_read = stamp.is_some();
            let stamp = stamp.unwrap_or_else(|| self.levels.stamp(key)); // P1 stamp-before-read
            let tags = match self.confirm(key, image, is_read).await {
                Ok(Some(tags)) => tags,
                Ok(None) => return,
                Err(error) => return self.reporter.remote_failed(&error),
            };
            let (from, span) = life;
            self.keep(
                key,
                value,
                (from, span, Kept::Remote),
                stamp,
                tags,
                Some(image.size),
            );
            if self.levels.is_current(key, &stamp) {
                return;
            }
        }
    }

    /// Asks L2 whether it still has a value, unless that `is_read` already, and stamps it with its
    /// tags. `None` if it is gone or outdated.
    async fn confirm(
        &self,
        key: &Key,
        image: &StoredImage,
        is_read: bool,
    ) -> Result<Option<PinnedTags>, larder_core::StoreError> {
        let Some(remote) = self.levels.remote() else {
            return Ok(None);
        };
        if !is_read && !remote.holds(key.as_str(), &image.digest).await? {
            return Ok(None);
        }
        match image.header() {
            None => Ok(Some(None)),
            Some(header) => Ok(self
                .tagging
                .judge(self.levels.lane(key), &header)
                .await?
                .map(Some)),
        }
    }

    /// Pins the tags of a value in L2 again that is to live on for `ttl`.
    pub(crate) async fn pin_again(&self, key: &Key, image: &StoredImage, ttl: Duration) -> bool {
        let Some(header) = image.header() else {
            return true;
        };
        match self
            .tagging
            .pin_again(key, self.levels.lane(key), &header, ttl)
            .await
        {
            Ok(is_pinned) => is_pinned,
            Err(error) => {
                self.reporter.remote_failed(&error);
                false
            }
        }
    }

    /// The epochs of this moment, for a load or write of this key.
    pub(crate) async fn tag_epochs(&self, key: &Key) -> TagEpochs {
        self.tagging.epochs(self.levels.lane(key)).await
    }

    pub(crate) fn count(&self, count: Count) {
        self.reporter.count(count);
    }
}

impl fmt::Debug for ActivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActivePolicy")
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}
