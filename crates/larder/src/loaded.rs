use std::time::Duration;

/// A loaded value with what its loader knows about it. A bare value stands for one without anything special.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    pub(crate) value: T,
    pub(crate) ttl: Option<Duration>,
}

impl<T> Loaded<T> {
    /// Takes the row's own lifetime.
    pub fn new(value: T) -> Self {
        Self { value, ttl: None }
    }

    /// Lives this long instead of the row's `ttl`. Zero: it is returned, but not kept. Cut to 100 years.
    ///
    /// The row's `jitter` and `l1_ttl` apply as ever.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}

impl<T> From<T> for Loaded<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}
