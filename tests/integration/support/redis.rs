use std::time::Duration;

use larder::RedisConfig;

/// Options with which an outage is noticed within a second: 2 lanes, limits of 300 ms, a ping each
/// 50 ms.
pub(crate) fn config(url: impl Into<String>) -> RedisConfig {
    RedisConfig::new(url)
        .lanes(2)
        .connect_timeout(Duration::from_millis(300))
        .command_timeout(Duration::from_millis(300))
        .ping_interval(Duration::from_millis(50))
}
