use std::{fmt, sync::Arc, time::Duration};

#[cfg(any(test, feature = "testing"))]
use larder_core::Clock;
use larder_core::{Outbox, RemoteStore};
#[cfg(feature = "redis")]
use larder_redis::RedisConfig;
use larder_ttl::TtlTable;

use crate::{
    Error, Event, L1Store, Larder,
    assembly::{Assembly, DRAIN_INTERVAL},
    connect::{Connect, Remote},
    observe::{Hook, advice::advise},
    outbox::OutboxSchedule,
    runtime::in_runtime,
};

/// Describes a [`Larder`]; [`build`](Self::build) makes it.
///
/// ```
/// # use larder::{Larder, TtlTable};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// let larder = Larder::builder()
///     .ttl_table(TtlTable::from_toml("[report]\nttl = '1h'")?)
///     .l1_entries(10_000)
///     .build()
///     .await?;
/// # let _: larder::Cache<u64, String> = larder.cache("report")?;
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct LarderBuilder {
    assembly: Assembly,
    remotes: Vec<Remote>,
    namespace: Option<String>,
    start_without_redis: bool,
    l1_entries: Option<u64>,
    l1_bytes: Option<u64>,
    outbox: Option<Arc<dyn Outbox>>,
    outbox_interval: Option<Duration>,
}

/// The longest namespace or name, in bytes: a namespace stands in front of every key.
const LONGEST_NAME: usize = 64;

// Here, and not beside `Larder`'s other methods, because a builder knows what it makes.
impl Larder {
    /// Starts to describe a larder. Every option has a default that suits production, except the
    /// address of Redis.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().build().await?;
    /// # Ok(()) }
    /// ```
    pub fn builder() -> LarderBuilder {
        LarderBuilder::default()
    }
}

impl LarderBuilder {
    /// Takes this TTL table; by default the table of the built-in policies.
    ///
    /// ```
    /// # use larder::{Larder, TtlTable};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let table = TtlTable::from_toml("[report]\nttl = '1h'\nreason = 'computed each night'")?;
    /// let larder = Larder::builder().ttl_table(table).build().await?;
    /// assert!(larder.ttl_table().policy("report").is_some());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn ttl_table(mut self, table: TtlTable) -> Self {
        self.assembly.table = table;
        self
    }

    /// Puts `{namespace}/` in front of every name that this larder writes in Redis: values, leases,
    /// tags, probes, and the channel of invalidations. By default there is no namespace.
    ///
    /// Larders with different namespaces can share a server, such as staging and production, or two
    /// services that use the built-in policies. Neither sees the other's keys, tags, clears or
    /// messages. An ACL of `~{namespace}/*` and `&{namespace}/*` suffices for each.
    ///
    /// A namespace has 1 to 64 bytes: ASCII letters, digits, `_`, `.` and `-`.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().namespace("shop").build().await?;
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// assert_eq!(users.key(42).as_str(), "shop/user:42");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Names this larder in logs (field `larder`) and metrics (label `larder`), for a process that
    /// has several. By default it has no name, and logs and metrics lack the field and the label.
    ///
    /// A name has 1 to 64 bytes.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let sessions = Larder::builder().name("sessions").build().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.assembly.name = Some(name.into());
        self
    }

    /// Takes the Redis at this address as L2: `redis://`, `rediss://` (TLS) or `unix://`. Without
    /// an L2, entries live in L1 only.
    ///
    /// ```no_run
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().redis("redis://127.0.0.1").build().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    #[must_use]
    pub fn redis(self, url: impl Into<String>) -> Self {
        self.redis_config(RedisConfig::new(url.into()))
    }

    /// Takes a Redis with options of its own as L2.
    ///
    /// A namespace of these options holds for the whole larder, as if the builder had it. It must
    /// not differ from the builder's [`namespace`](Self::namespace).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use larder::{Larder, RedisConfig};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let config =
    ///     RedisConfig::new("redis://127.0.0.1").command_timeout(Duration::from_millis(300));
    /// let larder = Larder::builder().redis_config(config).build().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    #[must_use]
    pub fn redis_config(mut self, config: RedisConfig) -> Self {
        self.remotes.push(Remote::Redis(Box::new(config)));
        self
    }

    /// Lets [`build`](Self::build) succeed while Redis is out of reach; the larder connects later.
    /// By default `build` then fails.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder =
    ///     Larder::builder().redis("redis://127.0.0.1:1").start_without_redis(true).build().await?;
    /// # Ok(()) }
    /// ```
    #[cfg(feature = "redis")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
    #[must_use]
    pub fn start_without_redis(mut self, yes: bool) -> Self {
        self.start_without_redis = yes;
        self
    }

    /// Takes any other remote store as L2, such as a `MemoryRemote` in tests.
    ///
    /// Give each larder a store of its own. A store does not report its own writes, so two larders
    /// on one store would not hear of each other's writes.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use larder::{Clock, Larder, MemoryServer};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let server = MemoryServer::new(Clock::system());
    /// let one = Larder::builder().remote_store(Arc::new(server.connect())).build().await?;
    /// let other = Larder::builder().remote_store(Arc::new(server.connect())).build().await?;
    ///
    /// one.cache::<u64, String>("user_profile")?.insert(42, "Ada".to_owned()).await?;
    /// assert!(other.cache::<u64, String>("user_profile")?.get(42).await?.is_some());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn remote_store(mut self, store: Arc<dyn RemoteStore>) -> Self {
        self.remotes.push(Remote::Store(store));
        self
    }

    /// Keeps L1's entries in this kind of map; by default `L1Store::Moka`. All kinds serve and
    /// refuse the same entries.
    ///
    /// ```
    /// # use larder::{L1Store, Larder};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().l1_store(L1Store::Moka).build().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn l1_store(mut self, store: L1Store) -> Self {
        self.assembly.l1_store = store;
        self
    }

    /// Bounds L1 by its number of entries; default 100,000.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().l1_entries(10_000).build().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn l1_entries(mut self, entries: u64) -> Self {
        self.l1_entries = Some(entries);
        self
    }

    /// Bounds L1 by about this many bytes instead of a number of entries. An entry counts with its
    /// key, its JSON and 200 bytes.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().l1_bytes(64 << 20).build().await?; // 64 MiB
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn l1_bytes(mut self, bytes: u64) -> Self {
        self.l1_bytes = Some(bytes);
        self
    }

    /// Limits the encoded size of a cached value, in bytes; default 16 MiB. `insert` refuses a
    /// larger value. A larger value that was loaded or written through is returned, but not cached.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let larder = Larder::builder().max_value_size(1 << 20).build().await?; // 1 MiB
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.assembly.max_value_size = bytes;
        self
    }

    /// Drains this outbox in the background, see [`Larder::drain_outbox`]: at the start, and then
    /// every [`outbox_interval`](Self::outbox_interval), as long as the larder or one of its caches
    /// lives. The larder logs the first of several failures in a row, and counts each in
    /// [`Stats::outbox_errors`](crate::Stats::outbox_errors).
    ///
    /// The example `outbox.rs` of this crate has an outbox on SQLite.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/table.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let outbox = Arc::new(Table::default()); // with what a process owed that died
    /// outbox.record(1, "user:42".to_owned());
    ///
    /// let larder = Larder::builder().outbox(outbox.clone()).build().await?;
    /// while larder.stats().outbox_drained < 1 {
    ///     tokio::time::sleep(Duration::from_millis(1)).await;
    /// }
    /// assert!(outbox.is_empty());
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn outbox(mut self, outbox: Arc<dyn Outbox>) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// Sets the time between two drains of the [`outbox`](Self::outbox); default 5 s. Each process
    /// that drains it reads the outbox this often.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/table.rs"));
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// # let outbox = Arc::new(Table::default());
    /// let builder = Larder::builder().outbox(outbox);
    /// let larder = builder.outbox_interval(Duration::from_secs(1)).build().await?;
    ///
    /// let pointless = Larder::builder().outbox_interval(Duration::from_secs(1)).build().await;
    /// assert!(pointless.is_err(), "there is no outbox");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn outbox_interval(mut self, interval: Duration) -> Self {
        self.outbox_interval = Some(interval);
        self
    }

    /// Reads the time from this clock, for tests; by default from the system's coarse monotonic
    /// clock.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder::{Clock, Larder};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let (clock, time) = Clock::manual();
    /// let larder = Larder::builder().clock(clock).build().await?;
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    ///
    /// time.advance(users.policy().ttl() + Duration::from_secs(1));
    /// assert_eq!(users.get(42).await?, None);
    /// # Ok(()) }
    /// ```
    #[cfg(any(test, feature = "testing"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.assembly.clock = clock;
        self
    }

    /// Calls this function for each [`Event`], in the task in which the event happens. The function
    /// must be quick, and must not block. Without a function, a hit pays one comparison for its
    /// event.
    ///
    /// ```
    /// # use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
    /// # use larder::{Event, Larder};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let hits = Arc::new(AtomicU64::new(0));
    /// let count = hits.clone();
    /// let larder = Larder::builder()
    ///     .on_event(move |event| {
    ///         if let Event::Hit { .. } = event {
    ///             count.fetch_add(1, Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build()
    ///     .await?;
    ///
    /// let users = larder.cache::<u64, String>("user_profile")?;
    /// users.insert(42, "Ada".to_owned()).await?;
    /// users.get(42).await?;
    /// assert_eq!(hits.load(Ordering::Relaxed), 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn on_event(mut self, hook: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.assembly.hook = Some(Hook::new(hook));
        self
    }

    /// Makes the larder and connects it.
    ///
    /// ```
    /// # use larder::{Error, Larder};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Error> {
    /// let larder = Larder::builder().build().await?;
    /// let both = Larder::builder().l1_entries(1000).l1_bytes(1 << 20).build().await;
    /// assert!(matches!(both, Err(Error::Options { .. })));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// - [`Error::Options`]: two options contradict each other, or one of them is out of its range.
    /// - [`Error::Store`]: the address is wrong. Or Redis is out of reach, refuses the password, is
    ///   a replica or a Sentinel, or its user lacks a command or keys, which the error names, and
    ///   the larder may not [`start_without_redis`](Self::start_without_redis).
    /// - [`Error::NoRuntime`]: the call was made outside a tokio runtime.
    pub async fn build(self) -> Result<Larder, Error> {
        in_runtime()?;
        let (assembly, remote, schedule) = self.checked()?;
        let remote = match remote {
            Some(remote) => Some(remote.connect().await?),
            None => None,
        };
        advise(&assembly.table, remote.as_deref()).await;
        Ok(assembly.assemble(remote, schedule))
    }

    /// Checks that no two options contradict each other.
    fn checked(mut self) -> Result<(Assembly, Option<Connect>, Option<OutboxSchedule>), Error> {
        if self.remotes.len() > 1 {
            return Err(options(
                "redis, redis_config and remote_store each choose the L2: keep one of them",
            ));
        }
        let remote = self.remotes.pop();
        self.assembly.namespace = one_namespace(self.namespace.take(), remote.as_ref())?;
        if self.start_without_redis && !remote.as_ref().is_some_and(Remote::is_redis) {
            return Err(options(
                "start_without_redis(true) needs redis or redis_config",
            ));
        }
        match (self.l1_entries, self.l1_bytes) {
            (Some(_), Some(_)) => {
                return Err(options(
                    "l1_entries and l1_bytes both bound L1: keep one of them",
                ));
            }
            (Some(entries), None) => {
                self.assembly.capacity = larder_core::Capacity::Entries(entries)
            }
            (None, Some(bytes)) => self.assembly.capacity = larder_core::Capacity::Weight(bytes),
            (None, None) => {}
        }
        if self
            .assembly
            .name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > LONGEST_NAME)
        {
            return Err(options(format!("a name has 1 to {LONGEST_NAME} bytes")));
        }
        let schedule = match (self.outbox, self.outbox_interval) {
            (None, Some(_)) => return Err(options("outbox_interval needs an outbox")),
            (Some(_), Some(Duration::ZERO)) => {
                return Err(options("outbox_interval is zero: give it 1 ms or more"));
            }
            (Some(outbox), every) => Some(OutboxSchedule {
                outbox,
                every: every.unwrap_or(DRAIN_INTERVAL),
            }),
            (None, None) => None,
        };
        let remote = remote.map(|remote| Connect {
            remote,
            namespace: self.assembly.namespace.clone(),
            prefixes: self.assembly.own_prefixes(),
            max_value_size: self.assembly.max_value_size,
            everything: self.assembly.everything_in_l2(),
            lazily: self.start_without_redis,
        });
        Ok((self.assembly, remote, schedule))
    }
}

fn options(problem: impl Into<String>) -> Error {
    Error::Options {
        problem: problem.into(),
    }
}

/// The namespace of the whole larder, which the builder or the options of Redis may set.
fn one_namespace(own: Option<String>, remote: Option<&Remote>) -> Result<Option<String>, Error> {
    let remotes = remote.and_then(Remote::namespace);
    let namespace = match (own, remotes) {
        (Some(own), Some(remotes)) if own != remotes => {
            return Err(options(format!(
                "the builder's namespace is {:?}, that of redis_config is {:?}: keep one of them",
                shortened(&own),
                shortened(remotes)
            )));
        }
        (own, remotes) => own.or_else(|| remotes.map(str::to_owned)),
    };
    namespace.as_deref().map_or(Ok(()), check_namespace)?;
    Ok(namespace)
}

fn check_namespace(namespace: &str) -> Result<(), Error> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let problem = if namespace.is_empty() || namespace.len() > LONGEST_NAME {
        format!(
            "it has {} bytes, and must have 1 to {LONGEST_NAME}",
            namespace.len()
        )
    } else if let Some(other) = namespace.chars().find(|c| !is_allowed(*c)) {
        format!("{other:?} is not allowed: use ASCII letters, digits, '_', '.' and '-'")
    } else {
        return Ok(());
    };
    Err(options(format!(
        "the namespace {:?} cannot be used: {problem}",
        shortened(namespace)
    )))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

impl fmt::Debug for LarderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarderBuilder")
            .field("name", &self.assembly.name)
            .field("namespace", &self.namespace)
            .field("max_value_size", &self.assembly.max_value_size)
            .finish_non_exhaustive()
    }
}
