use std::{num::NonZeroU32, time::Duration};

use crate::{Levels, OnOutage};

/// The policy for one type of data: the lifetimes of its values, and the limits of their loads. All
/// its values have been checked.
///
/// A policy comes from a [`TtlTable`](crate::TtlTable), or from code by [`Policy::builder`].
///
/// ```
/// use larder_ttl::TtlTable;
///
/// let table = TtlTable::from_toml("[posts]\nttl = '5m'\nreason = 'edits are rare'")?;
/// let posts = table.policy("posts").unwrap();
/// assert_eq!((posts.name(), posts.reason()), ("posts", "edits are rare"));
/// # Ok::<(), larder_ttl::TableError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) ttl: Duration,
    pub(crate) reason: String,
    pub(crate) l1_ttl: Option<Duration>,
    pub(crate) levels: Levels,
    pub(crate) jitter: f64,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) stale_for: Duration,
    pub(crate) refresh_ahead: Option<f64>,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) load_timeout: Duration,
    pub(crate) lease: Option<Duration>,
    pub(crate) max_wait: Option<Duration>,
    pub(crate) degraded_l1_ttl: Duration,
    pub(crate) max_loads: Option<NonZeroU32>,
    pub(crate) on_outage: OnOutage,
    pub(crate) codec: String,
    pub(crate) instant_clear: bool,
    pub(crate) schema: u32,
}

/// 60 s: the longest life of an entry in L1 whose policy sets no `l1_ttl`.
const LONGEST_L1_TTL: Duration = Duration::from_secs(60);
const DEFAULT_LEASE: Duration = Duration::from_secs(10);
const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(5);

impl Policy {
    /// Returns a policy with all defaults. The caller must set the required `ttl`.
    pub(crate) fn with_defaults(name: String) -> Self {
        Self {
            prefix: name.clone(),
            name,
            ttl: Duration::ZERO,
            reason: String::new(),
            l1_ttl: None,
            levels: Levels::Both,
            jitter: 0.1,
            negative_ttl: None,
            stale_for: Duration::ZERO,
            refresh_ahead: None,
            soft_timeout: None,
            load_timeout: Duration::from_secs(10),
            lease: None,
            max_wait: None,
            degraded_l1_ttl: Duration::from_secs(2),
            max_loads: None,
            on_outage: OnOutage::Serve,
            codec: "json".to_owned(),
            instant_clear: false,
            schema: 1,
        }
    }

    /// Returns the name by which the application asks for the policy.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.name(), "posts");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the text in front of the policy's keys; by default the policy's name. It has 1 to 64
    /// letters, digits, `_`, `.` or `-`.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nprefix = 'p'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.prefix(), "p");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the text in front of the policy's keys in the stores: the prefix, and from schema 2
    /// on the schema, as in `user@2`.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nprefix = 'p'\nschema = 2")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.key_prefix(), "p@2");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn key_prefix(&self) -> String {
        match self.schema {
            1 => self.prefix.clone(),
            schema => format!("{}@{schema}", self.prefix),
        }
    }

    /// Returns the lifetime of a value in the shared store, and of every entry where there is no
    /// shared store. At least 1 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.ttl(), Duration::from_secs(3600));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns the reason for the lifetime, in the words of its author; by default empty.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nreason = 'edits are rare'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.reason(), "edits are rare");
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns the lifetime of an entry in L1; by default `ttl`, but at most 60 s. Where L1 is the
    /// only level, it is `ttl`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.l1_ttl(), Duration::from_secs(60));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn l1_ttl(&self) -> Duration {
        match self.levels {
            Levels::L1 => self.ttl,
            _ => self.l1_ttl.unwrap_or(self.ttl.min(LONGEST_L1_TTL)),
        }
    }

    /// Returns the levels in which entries live; by default both.
    ///
    /// ```
    /// use larder_ttl::{Levels, TtlTable};
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nlevels = 'l2'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.levels(), Levels::L2);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// Returns the largest share by which a store shortens a lifetime at random, from 0 to less
    /// than 1; by default 0.1. So values that were loaded together do not expire together.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\njitter = '25%'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.jitter(), 0.25);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// Returns how long a cache remembers that a value is absent, at most `ttl`. `None`, the
    /// default: not at all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nnegative_ttl = '30s'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.negative_ttl(), Some(Duration::from_secs(30)));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn negative_ttl(&self) -> Option<Duration> {
        self.negative_ttl
    }

    /// Returns how long the stores keep a value past its `ttl`. A caller gets that stale value
    /// while one reload runs, when a load fails, and when none can begin (`max_loads`). Zero, the
    /// default: the stores keep no value past its `ttl`.
    ///
    /// The shared store keeps the value for both times together, and a value with `stale_for` or
    /// less to live is stale. So every program that writes the policy's values must give them an
    /// expiry of `ttl` and `stale_for` together. A value with an expiry of `ttl` alone counts as
    /// older than it is.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nstale_for = '10m'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.stale_for(), Duration::from_secs(600));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn stale_for(&self) -> Duration {
        self.stale_for
    }

    /// Returns the share of the `ttl`, more than 0 and less than 1, after which a read starts a
    /// reload in the background. One reload runs over all processes. `None`, the default: no read
    /// reloads a value before it has expired.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nrefresh_ahead = '80%'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.refresh_ahead(), Some(0.8));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn refresh_ahead(&self) -> Option<f64> {
        self.refresh_ahead
    }

    /// Returns how long a caller waits for the new value before it gets the stale one; less than
    /// `load_timeout`. `None`, the default: the caller gets the stale value at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let text = "[posts]\nttl = '1h'\nstale_for = '1h'\nsoft_timeout = '200ms'";
    /// let table = TtlTable::from_toml(text)?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.soft_timeout(), Some(Duration::from_millis(200)));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn soft_timeout(&self) -> Option<Duration> {
        self.soft_timeout
    }

    /// Returns the time after which a load is cancelled; by default 10 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.load_timeout(), Duration::from_secs(10));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn load_timeout(&self) -> Duration {
        self.load_timeout
    }

    /// Returns the life of a lease, 100 ms to 24 h; by default 10 s. A living process renews its
    /// lease, so this bounds only how long the key of a process that died stays blocked.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.lease(), Duration::from_secs(10));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn lease(&self) -> Duration {
        self.lease.unwrap_or(DEFAULT_LEASE)
    }

    /// Returns the longest wait of a reader for another process's load or write, and for one of
    /// [`max_loads`](Self::max_loads); by default 5 s. For writers see
    /// [`max_write_wait`](Self::max_write_wait).
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.max_wait(), Duration::from_secs(5));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn max_wait(&self) -> Duration {
        self.max_wait.unwrap_or(DEFAULT_MAX_WAIT)
    }

    /// Returns the longest wait of a writer for other writers of its key: `max_wait`, if the table
    /// sets it; by default 1 s longer than [`lease`](Self::lease), so that a writer outwaits the lease
    /// of a process that died.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.max_write_wait(), Duration::from_secs(11));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn max_write_wait(&self) -> Duration {
        // 1 s: the answers to the claims before and after the wait take less.
        self.max_wait
            .unwrap_or_else(|| self.lease().saturating_add(Duration::from_secs(1)))
    }

    /// Returns the lifetime of an entry in L1 while no invalidation can reach this process; by
    /// default 2 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.degraded_l1_ttl(), Duration::from_secs(2));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn degraded_l1_ttl(&self) -> Duration {
        self.degraded_l1_ttl
    }

    /// Returns how many loads of this policy may run at once in this process. Further loads wait,
    /// for at most `max_wait`. `None`, the default: any number.
    ///
    /// A load that a loader of this policy asks for is a part of that loader's own load, and does
    /// not count.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nmax_loads = 8")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.max_loads().map(u32::from), Some(8));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn max_loads(&self) -> Option<NonZeroU32> {
        self.max_loads
    }

    /// Returns the behaviour while the shared store is out of reach; by default reads go to the
    /// loader, and writes go on.
    ///
    /// ```
    /// use larder_ttl::{OnOutage, TtlTable};
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!(posts.on_outage(), OnOutage::Serve);
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn on_outage(&self) -> OnOutage {
        self.on_outage
    }

    /// Reports whether `clear` takes a single step, however many entries there are. Each value in
    /// the shared store then has a header in front, so other programs cannot read or write it as
    /// plain JSON. By default `false`.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\ninstant_clear = true")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert!(posts.instant_clear());
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn instant_clear(&self) -> bool {
        self.instant_clear
    }

    /// Returns the version of the type's shape; by default 1. From 2 on, the schema is part of
    /// every key (`user@2:42`), so a process never reads entries of another schema.
    ///
    /// ```
    /// use larder_ttl::TtlTable;
    ///
    /// let table = TtlTable::from_toml("[posts]\nttl = '1h'\nschema = 2")?;
    /// let posts = table.policy("posts").unwrap();
    /// assert_eq!((posts.schema(), posts.key_prefix().as_str()), (2, "posts@2"));
    /// # Ok::<(), larder_ttl::TableError>(())
    /// ```
    pub fn schema(&self) -> u32 {
        self.schema
    }
}
