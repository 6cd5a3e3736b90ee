use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use larder_core::{Capacity, Clock, Generations, LocalStore, Outbox, PolicyIndex, RemoteStore, Tags};
use larder_lock::Leases;
use larder_redis::{RedisConfig, RedisStore};
use larder_ttl::{Policy, TtlTable};

use crate::{
    Error, Event, L1Store, Larder,
    advice::advise,
    events::Hook,
    invalidate::push_listener::L1Listener,
    l1,
    outbox::{OutboxSchedule, counts::DrainCounts, keep_draining},
    policy::{ActivePolicy, Levels, Reporter, SizeLimits},
    process::Process,
};

/// Describes a [`Larder`]; [`build`](Self::build) makes it.
pub struct LarderBuilder {
    table: TtlTable,
    remote: Remote,
    start_without_redis: bool,
    l1_store: L1Store,
    capacity: Capacity,
    max_value_size: usize,
    clock: Clock,
    hook: Option<Hook>,
    outbox: Option<Arc<dyn Outbox>>,
    outbox_interval: Duration,
}

enum Remote {
    None,
    Redis(Box<RedisConfig>),
    Store(Arc<dyn RemoteStore>),
}

/// How often L1 gives back the memory of expired entries, and the numbers are published.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What a dead process owed is done at the latest after this time.
const REPLAY_INTERVAL: Duration = Duration::from_secs(5);

impl Default for LarderBuilder {
    fn default() -> Self {
        Self {
            table: TtlTable::default(),
            remote: Remote::None,
            start_without_redis: false,
            l1_store: L1Store::default(),
            capacity: Capacity::Entries(100_000),
            max_value_size: 16 << 20,
            clock: Clock::system(),
            hook: None,
            outbox: None,
            outbox_interval: REPLAY_INTERVAL,
        }
    }
}

impl LarderBuilder {
    /// Takes this table; by default the built-in policies.
    #[must_use]
    pub fn ttl_table(mut self, table: TtlTable) -> Self {
        self.table = table;
        self
    }

    /// Takes the Redis at this address as L2: `redis://`, `rediss://` (TLS) or `unix://`. Without it there is L1 only.
    #[must_use]
    pub fn redis(self, url: impl Into<String>) -> Self {
        self.redis_config(RedisConfig::new(url.into()))
    }

    /// Takes a Redis with options of its own as L2.
    #[must_use]
    pub fn redis_config(mut self, config: RedisConfig) -> Self {
        self.remote = Remote::Redis(Box::new(config));
        self
    }

    /// Starts also if Redis cannot be reached, and connects later; by default that is an error of `build`.
    #[must_use]
    pub fn start_without_redis(mut self, yes: bool) -> Self {
        self.start_without_redis = yes;
        self
    }

    /// Takes any other remote store as L2, such as a `larder_core::MemoryRemote` in tests.
    ///
    /// Give each larder a store of its own: a store is not told of what is written through itself, so two larders
    /// that share one would not hear of each other's writes.
    #[must_use]
    pub fn remote_store(mut self, store: Arc<dyn RemoteStore>) -> Self {
        self.remote = Remote::Store(store);
        self
    }

    /// Keeps L1's entries in this store; by default in [`L1Store::Moka`]. All of them serve and refuse the same.
    #[must_use]
    pub fn l1_store(mut self, store: L1Store) -> Self {
        self.l1_store = store;
        self
    }

    /// Holds at most this many entries in L1; default 100,000.
    #[must_use]
    pub fn l1_entries(mut self, entries: u64) -> Self {
        self.capacity = Capacity::Entries(entries);
        self
    }

    /// Holds at most about this many bytes in L1, instead of a number of entries: keys, JSON and 200 bytes each.
    #[must_use]
    pub fn l1_bytes(mut self, bytes: u64) -> Self {
        self.capacity = Capacity::Weight(bytes);
        self
    }

    /// Sends no value to L2 whose encoded form is larger, in bytes; default 16 MiB. `insert` refuses such a value,
    /// and one that was loaded or written is returned but not kept.
    #[must_use]
    pub fn max_value_size(mut self, bytes: usize) -> Self {
        self.max_value_size = bytes;
        self
    }

    /// Replays this outbox in the background, see [`Larder::drain_outbox`]: at the start, and then every few seconds, for as
    /// long as the larder or one of its caches lives. What goes wrong is logged once, and counted in
    /// [`Stats::outbox_errors`](crate::Stats::outbox_errors).
    #[must_use]
    pub fn outbox(mut self, outbox: Arc<dyn Outbox>) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// Replays the outbox this often; default 5 s. All processes that replay it read its table this often.
    #[must_use]
    pub fn outbox_interval(mut self, interval: Duration) -> Self {
        self.outbox_interval = interval;
        self
    }

    /// Reads the time from this clock, for tests; by default from the system's coarse monotonic clock.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Calls this for each [`Event`], in the task in which it happens: it must be quick, and must not block. Without it
    /// nothing is paid for, not even on a hit.
    #[must_use]
    pub fn on_event(mut self, hook: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.hook = Some(Hook::new(hook));
        self
    }

    /// Makes the larder and connects it.
    ///
    /// # Errors
    /// [`Error::Store`] if the address is wrong, or Redis cannot be reached or refuses the password (unless it may
    /// [start without](Self::start_without_redis)); [`Error::NoRuntime`] outside a tokio runtime.
    pub async fn build(self) -> Result<Larder, Error> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        let remote: Option<Arc<dyn RemoteStore>> = match self.remote {
            Remote::None => None,
            Remote::Store(store) => Some(store),
            Remote::Redis(config) if self.start_without_redis => {
                Some(Arc::new(RedisStore::connect_lazy(*config).map_err(Error::remote)?))
            }
            Remote::Redis(config) => {
                Some(Arc::new(RedisStore::connect(*config).await.map_err(Error::remote)?))
            }
        };
        advise(&self.table, remote.as_deref()).await;
        let lanes = remote.as_ref().map_or(1, |remote| remote.lanes());
        let policies = u16::try_from(self.table.policies().count()).unwrap_or(u16::MAX);
        let generations = Arc::new(Generations::new(KEY_CELLS, lanes, policies));
        let l1 = Arc::new(l1::new(self.l1_store, self.capacity, &generations, &self.clock));
        let tags = Arc::new(Tags::new(lanes));
        let leases = remote.map(Leases::new);
        let size_limits = SizeLimits {
            largest: self.max_value_size,
            l1_is_weighed: matches!(self.capacity, Capacity::Weight(_)),
        };
        let activate = |(index, settings): (usize, &Policy)| {
            // Policies past the last generation share it, which costs a needless miss when one of
            // them is cleared.
            let index = PolicyIndex::at(index);
            // A larder without L2 keeps every policy in the one level that it has.
            let has_l1 = settings.levels().has_l1() || leases.is_none();
            let in_l2 = leases.clone().filter(|_| settings.levels().has_l2());
            let levels = Levels::new(l1.clone(), has_l1, in_l2, generations.clone(), index);
            let reporter = Reporter::new(settings.name(), self.hook.clone());
            let (settings, tags, clock) = (settings.clone(), tags.clone(), self.clock.clone());
            Arc::new(ActivePolicy::new(settings, index, levels, tags, reporter, clock, size_limits))
        };
        let policies: Vec<_> = self.table.policies().enumerate().map(activate).collect();
        let listener = leases.as_ref().map(|leases| {
            let listener = Arc::new(L1Listener {
                generations: generations.clone(),
                tags: tags.clone(),
                prefixes: policies.iter().map(|policy| format!("{}:", policy.prefix())).collect(),
                l1: l1.clone(),
                waiters: leases.waiters().clone(),
                hook: self.hook.clone(),
            });
            let weak = Arc::downgrade(&listener);
            leases.remote().subscribe(weak);
            listener
        });
        let drains = Arc::new(DrainCounts::default());
        #[cfg(feature = "metrics")]
        let published = crate::metrics::Published {
            policies: policies
                .iter()
                .map(|policy| (policy.name().to_owned(), policy.reporter.counters().clone()))
                .collect(),
            remote: leases.as_ref().map(|leases| leases.remote().clone()),
            drains: drains.clone(),
        };
        let in_house = l1.clone();
        let chores = move || {
            in_house.maintain();
            #[cfg(feature = "metrics")]
            published.publish();
        };
        let housekeeping = runtime.spawn(keep_house(chores)).abort_handle();
        let process = Arc::new(Process {
            generations,
            tags,
            l1,
            leases,
            policies,
            _listener: listener,
            drains,
            housekeeping,
            draining: OnceLock::new(),
        });
        if let Some(outbox) = self.outbox {
            keep_draining(&process, OutboxSchedule { outbox, every: self.outbox_interval });
        }
        Ok(Larder::new(process, self.table))
    }
}

/// Keys share cells by their hash: a value that is on its way into L1 while a key of the same cell is invalidated is
/// needlessly not kept. With so many cells that is rare, however large L1 is. A cell takes 8 bytes.
const KEY_CELLS: usize = 1 << 16;

/// A task, because a store frees what has expired only when somebody calls it.
async fn keep_house(chores: impl Fn() + Send) {
    let mut due = tokio::time::interval(HOUSEKEEPING);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        chores();
    }
}

impl fmt::Debug for LarderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LarderBuilder")
            .field("capacity", &self.capacity)
            .field("max_value_size", &self.max_value_size)
            .finish_non_exhaustive()
    }
}
