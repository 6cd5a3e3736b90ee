/// The way in which a process hears of other processes' changes.
///
/// ```
/// use larder_redis::{Coherence, RedisConfig};
///
/// // For a server, or a proxy, that refuses `CLIENT TRACKING` to every process.
/// let config = RedisConfig::new("redis://127.0.0.1").coherence(Coherence::Channel);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coherence {
    /// By `CLIENT TRACKING`. Where the server refuses that, the process publishes its changes on
    /// the invalidation channel, and subscribes to it. Processes that may track publish nothing
    /// there, and this process cannot know whether there are any. So it keeps its entries in L1 for
    /// at most `degraded_l1_ttl`.
    #[default]
    Auto,
    /// By the invalidation channel, without `CLIENT TRACKING`. *All* processes that share the
    /// server must be set so, because each one publishes its changes. Entries live in L1 as long as
    /// with tracking.
    Channel,
}
