use std::time::Duration;

/// A loaded value with what its loader knows about it. A bare value stands for one without anything special.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    pub(crate) content: Content<T>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content<T> {
    Value(T),
    Absent,
    NotModified,
}

impl<T> Loaded<T> {
    /// Takes the policy's own lifetime.
    pub fn new(value: T) -> Self {
        Self::of(Content::Value(value))
    }

    /// Says that the database has no such value. The policy's `negative_ttl` says how long that is remembered, by default
    /// not at all.
    pub fn absent() -> Self {
        Self::of(Content::Absent)
    }

    /// Says that the database still has the value that the load was to replace, see
    /// [`get_or_reload`](crate::Cache::get_or_reload): the entry is kept as it is, with its tags, and its life starts anew.
    pub fn not_modified() -> Self {
        Self::of(Content::NotModified)
    }

    fn of(content: Content<T>) -> Self {
        Self { content, ttl: None, tags: Vec::new() }
    }

    /// Lives this long instead of the policy's `ttl`. Zero: it is returned, but not kept. Cut to 100 years.
    ///
    /// The policy's `jitter` and `l1_ttl` apply as ever.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Gives the entry a tag, of 1 to 1,024 bytes: [`invalidate_tag`](crate::Larder::invalidate_tag) then removes it,
    /// together with all others that have the tag, in any policy and any process. Call it again for more, up to 256.
    ///
    /// A value with a tag outside these limits is returned, but not kept. Tags are shared by all larders on a server.
    /// In L2 such an entry is not plain JSON: a short header with its tags stands in front.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

impl<T> From<T> for Loaded<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}
