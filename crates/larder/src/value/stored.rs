use std::{any::Any, sync::Arc, time::Duration};

use larder_core::{AnyValue, Digest, TagEpoch, ValueHeader};

use super::loaded::{Content, Loaded};

/// A value of any type, or the knowledge that there is none, with what its loader said of it.
#[derive(Clone, Debug)]
pub(crate) struct CachedValue {
    /// `None`: known to be absent.
    pub(crate) value: Option<AnyValue>,
    /// The loader's own lifetime for it, in place of the policy's.
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Option<Arc<[Box<str>]>>,
    /// Whether the loader said "not modified": it is what was there before.
    pub(crate) is_renewed: bool,
    /// By what L2 knows it, if it was found there and may be renewed.
    pub(crate) image: Option<Arc<StoredImage>>,
    pub(crate) origin: Origin,
}

/// Where a value comes from, and which call brought it: so each call is counted once, though many
/// share a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From nowhere yet.
    None,
    L1(CallId),
    L2(CallId),
    /// From any level, past its lifetime.
    Stale,
    /// From the loader of this call.
    Load(CallId),
}

/// One call of the facade for one key; unique within its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId(pub(crate) u64);

impl CachedValue {
    /// A value, or the knowledge that there is none, without anything special.
    pub(crate) fn plain(value: Option<AnyValue>) -> Self {
        let origin = Origin::None;
        Self {
            value,
            ttl: None,
            tags: None,
            is_renewed: false,
            image: None,
            origin,
        }
    }

    pub(crate) fn tags(&self) -> &[Box<str>] {
        self.tags.as_deref().unwrap_or_default()
    }
}

impl<T: Send + Sync + 'static> From<Loaded<T>> for CachedValue {
    fn from(Loaded { content, ttl, tags }: Loaded<T>) -> Self {
        let is_renewed = matches!(content, Content::NotModified);
        let value = match content {
            Content::Value(value) => Some(Arc::new(value) as AnyValue),
            Content::Absent | Content::NotModified => None,
        };
        let tags = (!tags.is_empty()).then(|| tags.into());
        Self {
            value,
            ttl,
            tags,
            is_renewed,
            image: None,
            origin: Origin::None,
        }
    }
}

/// The value as the type that its policy holds.
pub(crate) fn typed<T: Any + Send + Sync>(value: Option<AnyValue>) -> Option<Arc<T>> {
    // A policy holds one type only, so the cast always succeeds; were it not so, the value would
    // be absent.
    value.and_then(|value| value.downcast().ok())
}

/// A value's bytes as L2 holds them, by which the value is known again: their digest, and the
/// header with its tags.
#[derive(Debug)]
pub(crate) struct StoredImage {
    pub(crate) digest: Digest,
    /// The length of the bytes.
    pub(crate) size: usize,
    header: Option<OwnedHeader>,
}

#[derive(Debug)]
struct OwnedHeader {
    epoch: TagEpoch,
    policy_tag: bool,
    tags: Box<[Box<str>]>,
}

impl StoredImage {
    pub(crate) fn new(digest: Digest, size: usize, header: Option<&ValueHeader<'_>>) -> Self {
        let header = header.map(|header| OwnedHeader {
            epoch: header.epoch,
            policy_tag: header.policy_tag,
            tags: header.tags.iter().map(|tag| (*tag).into()).collect(),
        });
        Self {
            digest,
            size,
            header,
        }
    }

    /// The header in front of the value, if there is one.
    pub(crate) fn header(&self) -> Option<ValueHeader<'_>> {
        self.header.as_ref().map(|header| ValueHeader {
            epoch: header.epoch,
            policy_tag: header.policy_tag,
            tags: header.tags.iter().map(|tag| &**tag).collect(),
        })
    }
}
