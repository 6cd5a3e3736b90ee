use std::{fmt, thread::available_parallelism, time::Duration};

use crate::endpoint::Endpoint;

/// Where Redis is, and how long to wait for it. Every option but the address has a default that suits production.
///
/// `Debug` shows the address without its password.
#[derive(Clone)]
pub struct RedisConfig {
    pub(crate) url: String,
    pub(crate) root_certificate: Option<Vec<u8>>,
    pub(crate) lanes: u16,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) max_unsent: usize,
    pub(crate) breaker_pause: Duration,
    pub(crate) breaker_max_pause: Duration,
}

/// No pause of the breaker is longer.
const DAY: Duration = Duration::from_secs(24 * 3600);

impl RedisConfig {
    /// Takes an address: `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, or `unix:///path`. Of a cluster,
    /// that of any of its servers; the others are reached in the same way, with the same user.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            root_certificate: None,
            lanes: if available_parallelism().is_ok_and(|cores| cores.get() < 4) { 1 } else { 2 },
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(1),
            probe_interval: Duration::from_secs(5),
            max_unsent: 100_000,
            breaker_pause: Duration::from_millis(50),
            breaker_max_pause: Duration::from_secs(1),
        }
    }

    /// Trusts this root certificate (PEM) for `rediss://`, instead of the system's.
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificate = Some(pem.into());
        self
    }

    /// Opens this many connections, at least one, in a cluster to each master; default 2, and 1 on fewer than four cores.
    /// Each key always takes the same one. Values of 64 KiB or more take further ones, up to four for each, which are
    /// opened when they are needed.
    #[must_use]
    pub fn lanes(mut self, lanes: u16) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// Gives up connecting after this time; default 2 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Waits this long for an answer; default 1 s. A connection that does not answer in time is replaced.
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Pings a connection that was idle for this time; default 1 s.
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Tries this often whether changes are pushed to each connection; default 5 s. A connection that is alive but deaf,
    /// as behind a proxy that loses pushes, is found within this time.
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Remembers at most this many keys and tags to invalidate for each lane while Redis is out of reach; default 100,000.
    /// Past it, whole prefixes (rows) are remembered instead of their keys, and cleared on return; with 0, from the first
    /// key on. Past it in tags, every tag is invalidated on return.
    #[must_use]
    pub fn max_unsent(mut self, names: usize) -> Self {
        self.max_unsent = names;
        self
    }

    /// Leaves Redis alone for this long when it does not answer, cannot be connected to, or takes no writes, and doubles
    /// that with each trial that fails; default 50 ms, shortened by up to half at random.
    #[must_use]
    pub fn breaker_pause(mut self, pause: Duration) -> Self {
        self.breaker_pause = pause.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// Leaves Redis alone for at most this long before it is tried again; default 1 s. The pauses are short again once it
    /// was back for twice this long.
    #[must_use]
    pub fn breaker_max_pause(mut self, pause: Duration) -> Self {
        self.breaker_max_pause = pause.clamp(Duration::from_millis(1), DAY);
        self
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &Endpoint::redacted(&self.url))
            .field("lanes", &self.lanes)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("probe_interval", &self.probe_interval)
            .field("max_unsent", &self.max_unsent)
            .field("breaker_pause", &self.breaker_pause)
            .field("breaker_max_pause", &self.breaker_max_pause)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let shown = format!("{:?}", RedisConfig::new("redis://me:s3cret@cache.example:6380/1"));
        assert!(shown.contains("redis://cache.example:6380/1") && !shown.contains("s3cret"), "{shown}");
    }
}
