mod access;
pub(crate) mod coherence;
mod reach;
mod server;
mod shown;

pub(crate) use access::{Access, AddressMap};
pub(crate) use shown::redacted;

use std::{fmt, thread::available_parallelism, time::Duration};

use larder_core::StoreError;

use self::coherence::Coherence;
use crate::redo::choice::OnDataLoss;

/// Where Redis is, and how long to wait for it. Every option but the address has a default that
/// suits production.
///
/// `Debug` shows the address without its user name and password.
///
/// ```
/// use std::time::Duration;
/// use larder_redis::RedisConfig;
///
/// let config = RedisConfig::new("rediss://app:s3cret@cache.example:6380/1")
///     .namespace("shop")
///     .command_timeout(Duration::from_millis(500));
/// assert!(!format!("{config:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    pub(crate) url: String,
    pub(crate) access: Access,
    pub(crate) namespace: Option<String>,
    pub(crate) lanes: u16,
    pub(crate) connect_timeout: Duration,
    pub(crate) command_timeout: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) probe_interval: Duration,
    pub(crate) max_unsent: usize,
    pub(crate) breaker_pause: Duration,
    pub(crate) breaker_max_pause: Duration,
    pub(crate) coherence: Coherence,
    pub(crate) max_value_size: usize,
    pub(crate) prefixes: Vec<String>,
    pub(crate) on_data_loss: OnDataLoss,
    pub(crate) clear_on_data_loss: Vec<String>,
    pub(crate) invalidate_on_data_loss: Vec<String>,
    pub(crate) max_redo: usize,
}

/// No pause of the circuit breaker is longer.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The longest namespace, in bytes: it stands in front of every key.
const MAX_NAMESPACE: usize = 64;

impl RedisConfig {
    /// Takes an address, in one of these forms:
    ///
    /// - `redis://[user:password@]host[:port][/db]`, or `valkey://…`
    /// - `rediss://…` or `valkeys://…`: the same over TLS
    /// - `redis+sentinel://[user:password@]host[:port],host[:port],…/service[/db]`: the master that
    ///   these sentinels name, at port 26379 unless another one is given; `rediss+sentinel://…`
    ///   reaches the sentinels and the master over TLS
    /// - `unix:///path[?db=…&user=…&pass=…]`: a Unix socket
    ///
    /// Of a cluster, the address of any of its servers; the store reaches the others in the same
    /// way, as the same user. A `?`, `#`, `/`, `@` or `%` in a user name or password must be
    /// percent-encoded, unless [`user`](Self::user) and [`password`](Self::password) give them. The
    /// address is checked when the store connects.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let plain = RedisConfig::new("redis://127.0.0.1:6379");
    /// // The password is `what?`.
    /// let with_user = RedisConfig::new("redis://app:what%3F@cache.example/2");
    /// let valkey = RedisConfig::new("valkeys://cache.example:6380");
    /// let sentinel = RedisConfig::new("redis+sentinel://one.example,two.example/mymaster");
    /// ```
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            access: Access::default(),
            namespace: None,
            lanes: if available_parallelism().is_ok_and(|cores| cores.get() < 4) {
                1
            } else {
                2
            },
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_secs(1),
            ping_interval: Duration::from_secs(1),
            probe_interval: Duration::from_secs(5),
            max_unsent: 100_000,
            breaker_pause: Duration::from_millis(50),
            breaker_max_pause: Duration::from_secs(1),
            coherence: Coherence::default(),
            max_value_size: 512 << 20,
            prefixes: Vec::new(),
            on_data_loss: OnDataLoss::default(),
            clear_on_data_loss: Vec::new(),
            invalidate_on_data_loss: Vec::new(),
            max_redo: 100_000,
        }
    }

    /// Puts `{namespace}/` in front of every name that the store writes or subscribes to by itself:
    /// leases, tags, the tag epoch, probes and the invalidation channel. By default there is no
    /// namespace.
    ///
    /// Values keep the keys that callers give: a caller puts `{namespace}/` in front of each, as
    /// the facade `larder` does. Stores with different namespaces then share a server, and neither
    /// sees the other's keys, tags, clears or messages; an ACL of `~{namespace}/*` and
    /// `&{namespace}/*` suffices for each.
    ///
    /// A namespace has 1 to 64 bytes: ASCII letters, digits, `_`, `.` and `-`. The store does not
    /// connect with another one.
    ///
    /// ```no_run
    /// use larder_core::ValueStore;
    /// use larder_redis::{RedisConfig, RedisStore};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), larder_core::StoreError> {
    /// let config = RedisConfig::new("redis://127.0.0.1").namespace("shop");
    /// let store = RedisStore::connect(config).await?;
    /// assert_eq!(store.get("shop/user:42").await?, None);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Opens this many connections (lanes), at least one; in a cluster, this many to each master.
    /// Default: 2, and 1 on fewer than four cores.
    ///
    /// Each key always takes the same lane. Values of 64 KiB or more take further connections, up
    /// to four for each lane and master, which are opened when they are needed.
    ///
    /// ```
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").lanes(4);
    /// ```
    #[must_use]
    pub fn lanes(mut self, lanes: u16) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// Gives up connecting after this time; default 2 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").connect_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Waits this long for a reply; default 1 s. A connection whose reply does not come in time is
    /// replaced, and the circuit breaker opens.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").command_timeout(Duration::from_millis(500));
    /// ```
    #[must_use]
    pub fn command_timeout(mut self, timeout: Duration) -> Self {
        self.command_timeout = timeout;
        self
    }

    /// Pings a connection that was idle for this time; default 1 s.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").ping_interval(Duration::from_secs(3));
    /// ```
    #[must_use]
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Tests this often whether invalidations are pushed to each connection; default 5 s. A
    /// connection that is alive but deaf, as behind a proxy that loses pushes, is found within this
    /// time.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").probe_interval(Duration::from_secs(1));
    /// ```
    #[must_use]
    pub fn probe_interval(mut self, interval: Duration) -> Self {
        self.probe_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Remembers at most this many keys and tags to invalidate, for each lane, while Redis is out
    /// of reach; default 100,000.
    ///
    /// - With more keys, the store remembers whole prefixes instead, and clears them when Redis is
    ///   back.
    /// - With more tags, the store invalidates every tag when Redis is back.
    /// - With 0, it remembers prefixes and "every tag" from the first one on.
    ///
    /// ```
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").max_unsent(10_000);
    /// ```
    #[must_use]
    pub fn max_unsent(mut self, names: usize) -> Self {
        self.max_unsent = names;
        self
    }

    /// Bypasses Redis for this long when it does not answer, cannot be connected to, or takes no
    /// writes; default 50 ms.
    ///
    /// The pause doubles with each trial that fails, up to
    /// [`breaker_max_pause`](Self::breaker_max_pause), and is shortened by up to half at random.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").breaker_pause(Duration::from_millis(100));
    /// ```
    #[must_use]
    pub fn breaker_pause(mut self, pause: Duration) -> Self {
        self.breaker_pause = pause.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// Bypasses Redis for at most this long before it is tried again; default 1 s.
    ///
    /// This is the upper bound on how long a recovered server stays unused; until then, other
    /// processes do not hear of this process's writes. Once Redis has been back for twice this
    /// time, the next outage begins with the shortest pause again.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1").breaker_max_pause(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn breaker_max_pause(mut self, pause: Duration) -> Self {
        self.breaker_max_pause = pause.clamp(Duration::from_millis(1), DAY);
        self
    }

    /// Chooses the answer to a server that comes back with older data; default
    /// [`OnDataLoss::Redo`].
    ///
    /// ```
    /// use larder_redis::{OnDataLoss, RedisConfig};
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").on_data_loss(OnDataLoss::Trust);
    /// ```
    #[must_use]
    pub fn on_data_loss(mut self, choice: OnDataLoss) -> Self {
        self.on_data_loss = choice;
        self
    }

    /// Adds beginnings of keys, such as `user:`. The store clears them if a server comes back with
    /// older data, and the store cannot tell what the server forgot. The facade `larder` adds those
    /// of its policies.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").clear_on_data_loss(["user:", "order:"]);
    /// ```
    #[must_use]
    pub fn clear_on_data_loss(
        mut self,
        prefixes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let prefixes = prefixes.into_iter().map(Into::into);
        self.clear_on_data_loss.extend(prefixes);
        self
    }

    /// Adds tags, which the store invalidates where it would clear
    /// [prefixes](Self::clear_on_data_loss): one command for each tag, however many entries have
    /// it. The facade `larder` adds those of its policies with `instant_clear`.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").invalidate_on_data_loss(["catalogue"]);
    /// ```
    #[must_use]
    pub fn invalidate_on_data_loss(
        mut self,
        tags: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let tags = tags.into_iter().map(Into::into);
        self.invalidate_on_data_loss.extend(tags);
        self
    }

    /// Limits the redo log of each lane to this many keys, tags and prefixes, and to 16 MiB of
    /// names; default 100,000. See [`OnDataLoss::Redo`].
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").max_redo(1_000_000);
    /// ```
    #[must_use]
    pub fn max_redo(mut self, names: usize) -> Self {
        self.max_redo = names;
        self
    }
}

impl RedisConfig {
    /// Returns the [`namespace`](Self::namespace) that was set; `None` without one. It is checked
    /// when the store connects.
    ///
    /// ```
    /// # use larder_redis::RedisConfig;
    /// let config = RedisConfig::new("redis://127.0.0.1");
    /// assert_eq!(config.configured_namespace(), None);
    /// assert_eq!(config.namespace("shop").configured_namespace(), Some("shop"));
    /// ```
    pub fn configured_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The namespace, empty for none.
    ///
    /// # Errors
    /// [`StoreError::Namespace`] if it cannot stand in front of keys.
    pub(crate) fn checked_namespace(&self) -> Result<&str, StoreError> {
        let Some(namespace) = self.namespace.as_deref() else {
            return Ok("");
        };
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let problem = if namespace.is_empty() || namespace.len() > MAX_NAMESPACE {
            format!(
                "it has {} bytes; from 1 to {MAX_NAMESPACE} are allowed",
                namespace.len()
            )
        } else if let Some(other) = namespace.chars().find(|c| !is_allowed(*c)) {
            format!("it has a {other:?}; ASCII letters, digits, `_`, `.` and `-` are allowed")
        } else {
            return Ok(namespace);
        };
        Err(StoreError::Namespace {
            namespace: namespace.to_owned(),
            problem,
        })
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("address", &redacted(&self.url))
            .field("access", &self.access)
            .field("namespace", &self.namespace)
            .field("lanes", &self.lanes)
            .field("connect_timeout", &self.connect_timeout)
            .field("command_timeout", &self.command_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("probe_interval", &self.probe_interval)
            .field("max_unsent", &self.max_unsent)
            .field("breaker_pause", &self.breaker_pause)
            .field("breaker_max_pause", &self.breaker_max_pause)
            .field("on_data_loss", &self.on_data_loss)
            .field("max_redo", &self.max_redo)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_password() {
        let shown = format!(
            "{:?}",
            RedisConfig::new("redis://me:s3cret@cache.example:6380/1")
        );
        assert!(
            shown.contains("redis://cache.example:6380/1") && !shown.contains("s3cret"),
            "{shown}"
        );
    }

    #[test]
    fn namespace_is_short_and_plain() {
        let checked = |namespace: &str| {
            let config = RedisConfig::new("redis://host").namespace(namespace);
            config
                .checked_namespace()
                .map(str::to_owned)
                .map_err(|error| error.to_string())
        };
        for namespace in ["a", "shop_v1.eu-1", &"n".repeat(MAX_NAMESPACE)] {
            assert_eq!(checked(namespace).as_deref(), Ok(namespace));
        }
        for namespace in [
            "",
            "a/b",
            "a:b",
            "a@2",
            "a{b}",
            "a b",
            "ü",
            "a\n",
            &"n".repeat(MAX_NAMESPACE + 1),
        ] {
            assert!(
                checked(namespace).is_err_and(|error| error.contains("allowed")),
                "{namespace:?}"
            );
        }
        assert_eq!(
            RedisConfig::new("redis://host")
                .checked_namespace()
                .unwrap(),
            ""
        );
        assert_eq!(
            checked("a/b").unwrap_err(),
            "the namespace \"a/b\" cannot be used: \
             it has a '/'; ASCII letters, digits, `_`, `.` and `-` are allowed"
        );
    }
}
