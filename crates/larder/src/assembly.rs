//! Puts a larder's parts together.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::join;
use larder_core::{Capacity, Clock, Generations, PolicyIndex, RemoteStore, Tags};
use larder_lock::{Leases, Nesting};
use larder_ttl::{Policy, TtlTable};

use crate::{
    L1Store, Larder,
    background::Work,
    connect::Everything,
    invalidate::l1_listener::L1Listener,
    l1::L1,
    observe::Hook,
    outbox::{OutboxSchedule, counts::DrainCounts, drain_for_ever},
    policy::{ActivePolicy, Levels, Parts, Reporter, SizeLimits, policy_tag},
    process::Process,
    runtime::Lifecycle,
};

/// The options of a larder, checked, apart from its L2.
pub(crate) struct Assembly {
    pub(crate) table: TtlTable,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) namespace: Option<String>,
    pub(crate) l1_store: L1Store,
    pub(crate) capacity: Capacity,
    pub(crate) max_value_size: usize,
    pub(crate) clock: Clock,
    pub(crate) hook: Option<Hook>,
}

/// 1 s: how often L1 gives back the memory of expired entries, and the numbers are published.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// 5 s: the longest time until another process does the invalidations that a dead process has
/// recorded.
pub(crate) const DRAIN_INTERVAL: Duration = Duration::from_secs(5);

/// 65,536 generations of keys, of 8 bytes each. Keys share them by their hash. When a process
/// invalidates a key, L1 also refuses values of other keys of its generation that are under way.
/// With this many generations that is rare, however large L1 is.
const KEY_GENERATIONS: usize = 1 << 16;

impl Default for Assembly {
    fn default() -> Self {
        Self {
            table: TtlTable::default(),
            name: None,
            namespace: None,
            l1_store: L1Store::default(),
            capacity: Capacity::Entries(100_000),
            max_value_size: 16 << 20,
            clock: Clock::system(),
            hook: None,
        }
    }
}

/// The parts that all policies share.
struct Shared {
    generations: Arc<Generations>,
    tags: Arc<Tags>,
    l1: Arc<L1>,
    leases: Option<Leases>,
    lifecycle: Arc<Lifecycle>,
    nesting: Arc<Nesting>,
}

impl Assembly {
    pub(crate) fn assemble(
        self,
        remote: Option<Arc<dyn RemoteStore>>,
        schedule: Option<OutboxSchedule>,
    ) -> Larder {
        let shared = self.shared(remote);
        let policies = self.table.policies().enumerate();
        let policies: Vec<_> = policies
            .map(|(index, settings)| self.activate(&shared, index, settings))
            .collect();
        let listener = shared
            .leases
            .as_ref()
            .map(|leases| self.listen(&shared, leases, &policies));
        let drains = Arc::new(DrainCounts::default());
        #[cfg(feature = "metrics")]
        let published = crate::observe::metrics::Published::new(
            self.name.as_deref(),
            policies
                .iter()
                .map(|policy| (policy.name(), policy.reporter.counters().clone())),
            shared.leases.as_ref().map(|leases| leases.remote().clone()),
            drains.clone(),
        );
        let in_house = shared.l1.clone();
        let chores = move || {
            in_house.maintain();
            #[cfg(feature = "metrics")]
            published.publish();
        };
        let Shared {
            generations,
            tags,
            l1,
            leases,
            lifecycle,
            ..
        } = shared;
        let process = Arc::new(Process {
            name: self.name,
            generations,
            tags,
            l1,
            leases,
            policies,
            _listener: listener,
            drains,
            lifecycle,
        });
        let work = in_background(Arc::new(chores), Arc::downgrade(&process), schedule);
        process.lifecycle.background.begin(work);
        Larder::new(process, self.table)
    }

    fn shared(&self, remote: Option<Arc<dyn RemoteStore>>) -> Shared {
        let lanes = remote.as_ref().map_or(1, |remote| remote.lanes());
        let policies = u16::try_from(self.table.policies().count()).unwrap_or(u16::MAX);
        let generations = Arc::new(Generations::new(KEY_GENERATIONS, lanes, policies));
        let l1 = Arc::new(L1::new(
            self.l1_store,
            self.capacity,
            &generations,
            &self.clock,
        ));
        Shared {
            generations,
            tags: Arc::new(Tags::new(lanes)),
            l1,
            leases: remote.map(Leases::new),
            lifecycle: Arc::default(),
            nesting: Arc::default(),
        }
    }

    /// The prefixes of the policies that live in L2, without the built-in ones, which an
    /// application may not use.
    pub(crate) fn own_prefixes(&self) -> Vec<String> {
        self.own_in_l2().map(|policy| self.prefix(policy)).collect()
    }

    fn own_in_l2(&self) -> impl Iterator<Item = &Policy> {
        let builtin = TtlTable::builtin();
        let own = move |policy: &&Policy| builtin.policy(policy.name()) != Some(*policy);
        self.table
            .policies()
            .filter(own)
            .filter(|policy| policy.levels().has_l2())
    }

    /// The text in front of a policy's keys, without its colon.
    fn prefix(&self, settings: &Policy) -> String {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", settings.key_prefix()),
            None => settings.key_prefix(),
        }
    }

    /// Names for all values in L2 but those of the built-in policies, under whose names another
    /// program may have keys: one tag for each policy that has one, and a prefix for each of the
    /// others.
    pub(crate) fn everything_in_l2(&self) -> Everything {
        let (tagged, others): (Vec<_>, Vec<_>) =
            self.own_in_l2().partition(|policy| policy.instant_clear());
        let tag = |policy: &Policy| policy_tag(&self.prefix(policy));
        let prefix = |policy: &Policy| format!("{}:", self.prefix(policy));
        Everything {
            tags: tagged.into_iter().map(tag).collect(),
            prefixes: others.into_iter().map(prefix).collect(),
        }
    }

    fn activate(&self, shared: &Shared, index: usize, settings: &Policy) -> Arc<ActivePolicy> {
        let prefix = self.prefix(settings);
        let index = PolicyIndex::at(index);
        let Shared {
            generations,
            l1,
            leases,
            ..
        } = shared;
        // A larder without L2 keeps every policy in the one level that it has.
        let has_l1 = settings.levels().has_l1() || leases.is_none();
        let in_l2 = leases.as_ref().filter(|_| settings.levels().has_l2());
        // P33 only-kept-is-tracked: without L1, a value waits only while a load replaces it.
        let keeps = has_l1 || settings.refresh_ahead().is_some() || !settings.stale_for().is_zero();
        let in_l2 = in_l2.map(|leases| match keeps {
            true => leases.clone(),
            false => leases.untracked(),
        });
        Arc::new(ActivePolicy::new(Parts {
            settings: settings.clone(),
            prefix,
            index,
            levels: Levels::new(l1.clone(), has_l1, in_l2, generations.clone(), index),
            tags: shared.tags.clone(),
            reporter: Reporter::new(settings.name(), self.name.clone(), self.hook.clone()),
            clock: self.clock.clone(),
            size_limits: SizeLimits {
                largest: self.max_value_size,
                l1_is_weighed: matches!(self.capacity, Capacity::Weight(_)),
            },
            lifecycle: shared.lifecycle.clone(),
            nesting: shared.nesting.clone(),
        }))
    }

    fn listen(
        &self,
        shared: &Shared,
        leases: &Leases,
        policies: &[Arc<ActivePolicy>],
    ) -> Arc<L1Listener> {
        let listener = Arc::new(L1Listener {
            generations: shared.generations.clone(),
            tags: shared.tags.clone(),
            prefixes: policies
                .iter()
                .map(|policy| format!("{}:", policy.prefix()))
                .collect(),
            l1: shared.l1.clone(),
            waiters: leases.waiters().clone(),
            hook: self.hook.clone(),
        });
        let weak = Arc::downgrade(&listener);
        leases.remote().subscribe(weak);
        listener
    }
}

/// Makes the work in the background: housekeeping, and draining the outbox, if there is one.
fn in_background(
    chores: Arc<impl Fn() + Send + Sync + 'static>,
    process: Weak<Process>,
    schedule: Option<OutboxSchedule>,
) -> Work {
    let schedule = schedule.map(Arc::new);
    Box::new(move || {
        let housekeeping = keep_house(chores.clone());
        let (process, schedule) = (process.clone(), schedule.clone());
        Box::pin(async move {
            let Some(schedule) = schedule else {
                return housekeeping.await;
            };
            // Neither of them ends.
            let _ = join(housekeeping, drain_for_ever(process, schedule)).await;
        })
    })
}

/// In the background, because a store frees expired entries only when somebody calls it.
async fn keep_house(chores: Arc<impl Fn() + Send + Sync>) {
    let mut due = tokio::time::interval(HOUSEKEEPING);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        chores();
    }
}
