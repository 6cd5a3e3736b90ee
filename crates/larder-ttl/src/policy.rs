use std::{num::NonZeroU32, time::Duration};

use crate::RowBuilder;

/// In which levels a policy's entries live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Levels {
    /// In each process and in the shared store.
    #[default]
    Both,
    /// In each process only; other processes' writes are not noticed.
    L1,
    /// In the shared store only.
    L2,
}

impl Levels {
    /// Whether entries live in each process.
    pub fn has_l1(self) -> bool {
        self != Self::L2
    }

    /// Whether entries live in the shared store.
    pub fn has_l2(self) -> bool {
        self != Self::L1
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

/// What happens while the shared store is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnOutage {
    /// Reads go to the loader, and writes go on.
    #[default]
    Serve,
    /// Reads that L1 cannot serve, and writes, fail before the database is touched.
    Fail,
}

impl OnOutage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Fail => "fail",
        }
    }
}

/// The policy for one type of data. All its values have been checked.
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

/// An entry in L1 lives at most this long if its policy does not say otherwise.
const LONGEST_L1_TTL: Duration = Duration::from_secs(60);
const DEFAULT_LEASE: Duration = Duration::from_secs(10);
const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(5);

impl Policy {
    /// Starts a policy with its two required values.
    pub fn builder(name: impl Into<String>, ttl: Duration) -> RowBuilder {
        RowBuilder::new(name.into(), ttl)
    }

    /// The defaults of a policy; `ttl` is required and set by whoever makes the policy.
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

    /// The name by which the application asks for the policy.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the policy's keys begin with; by default the policy's name.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the policy's keys begin with in the store: the prefix, and from schema 2 on the schema (`user:v2`).
    pub fn key_prefix(&self) -> String {
        match self.schema {
            1 => self.prefix.clone(),
            schema => format!("{}:v{schema}", self.prefix),
        }
    }

    /// How long a value lives in the shared store, and wherever there is no shared store.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Why the lifetime is what it is, in the words of whoever chose it.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// How long a copy of a value in the shared store may be served from L1; by default `ttl`, but at most 60 s.
    /// Where L1 is the only level, it is `ttl`.
    pub fn l1_ttl(&self) -> Duration {
        match self.levels {
            Levels::L1 => self.ttl,
            _ => self.l1_ttl.unwrap_or(self.ttl.min(LONGEST_L1_TTL)),
        }
    }

    /// In which levels the entries live.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// Each lifetime is shortened by a random share up to this, at least 0 and less than 1; default 0.1.
    pub fn jitter(&self) -> f64 {
        self.jitter
    }

    /// How long it is remembered that there is no value; `None`, the default: not at all.
    pub fn negative_ttl(&self) -> Option<Duration> {
        self.negative_ttl
    }

    /// How long a value is kept past its `ttl`: it is served while one reload runs, and when a load fails or is
    /// refused. Zero, the default: not at all.
    ///
    /// The shared store keeps it for both times, and what is left of them says whether it is stale. So all who write the
    /// policy's values must keep them that long: what another program writes for `ttl` alone is older than it seems.
    pub fn stale_for(&self) -> Duration {
        self.stale_for
    }

    /// A read after this share of the ttl, such as 0.8, starts one reload over all processes in the background. More
    /// than 0 and less than 1; `None`, the default: no reload before the value has expired.
    pub fn refresh_ahead(&self) -> Option<f64> {
        self.refresh_ahead
    }

    /// How long a caller waits for the new value before it is given the stale one; `None`, the default: it is given
    /// the stale one at once. Shorter than `load_timeout`.
    pub fn soft_timeout(&self) -> Option<Duration> {
        self.soft_timeout
    }

    /// A load that takes longer is given up; default 10 s.
    pub fn load_timeout(&self) -> Duration {
        self.load_timeout
    }

    /// How fast another process takes over from one that died in the middle of a load or write; default 10 s.
    pub fn lease(&self) -> Duration {
        self.lease.unwrap_or(DEFAULT_LEASE)
    }

    /// The longest wait for another process's load or write, and for an earlier load of this process that an
    /// invalidation has outdated; default 5 s.
    pub fn max_wait(&self) -> Duration {
        self.max_wait.unwrap_or(DEFAULT_MAX_WAIT)
    }

    /// How long an entry lives in L1 while no invalidation can reach this process; default 2 s.
    pub fn degraded_l1_ttl(&self) -> Duration {
        self.degraded_l1_ttl
    }

    /// How many loads of this policy may run at once in this process; `None`, the default: there is no limit. The others
    /// wait, at most `max_wait`.
    pub fn max_loads(&self) -> Option<NonZeroU32> {
        self.max_loads
    }

    /// What happens while the shared store is out of reach; by default reads go to the loader, and writes go on.
    pub fn on_outage(&self) -> OnOutage {
        self.on_outage
    }

    /// Whether each value in the shared store has a small header in front, which makes `clear` a single step whatever
    /// their number; other programs can then neither read nor write the policy's values as plain JSON.
    pub fn instant_clear(&self) -> bool {
        self.instant_clear
    }

    /// The shape of the type, from 1: entries of one schema are never read as another. From 2 on it is part of the
    /// key (`user:v2:42`), so a policy of schema 1 should have no keys that begin with `v2:`.
    pub fn schema(&self) -> u32 {
        self.schema
    }
}
