//! Options about other programs and processes on the same server.

use super::{RedisConfig, coherence::Coherence};

impl RedisConfig {
    /// Chooses how this process hears of changes by others. By default [`Coherence::Auto`].
    ///
    /// ```
    /// use larder_redis::{Coherence, RedisConfig};
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").coherence(Coherence::Channel);
    /// ```
    #[must_use]
    pub fn coherence(mut self, coherence: Coherence) -> Self {
        self.coherence = coherence;
        self
    }

    /// Reads no value of more bytes than this: one that another program has put there is removed.
    /// By default 512 MiB, the largest that Redis holds. The facade `larder` sets its own
    /// `max_value_size`.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").max_value_size(1 << 20); // 1 MiB
    /// ```
    #[must_use]
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.max_value_size = bytes;
        self
    }

    /// Names the texts before the colon with which the keys of values begin. The store tries
    /// whether its user may read and write such keys, and does not connect otherwise. The facade
    /// `larder` sets those of its policies.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").prefixes(["user", "post"]);
    /// ```
    #[must_use]
    pub fn prefixes(mut self, prefixes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.prefixes = prefixes.into_iter().map(Into::into).collect();
        self
    }
}
