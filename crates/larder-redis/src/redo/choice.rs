/// The answer of a store to a server that comes back with older data: from a snapshot, from a log
/// without its end, or as a replica that lagged.
///
/// ```
/// use larder_redis::{OnDataLoss, RedisConfig};
///
/// let config = RedisConfig::new("redis://127.0.0.1").on_data_loss(OnDataLoss::Clear);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDataLoss {
    /// Invalidates again what this process has written and invalidated since the moment that the
    /// server remembers. If the process does not know all of that any more, it clears the
    /// [prefixes](crate::RedisConfig::clear_on_data_loss), and invalidates the
    /// [tags](crate::RedisConfig::invalidate_on_data_loss).
    #[default]
    Redo,
    /// Clears the [prefixes](crate::RedisConfig::clear_on_data_loss), and invalidates the
    /// [tags](crate::RedisConfig::invalidate_on_data_loss).
    Clear,
    /// Believes the server: callers are served older values until the values' time ends.
    Trust,
}
