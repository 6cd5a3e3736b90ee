use std::{
    cell::Cell,
    ops::Add,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{BreakerState, RemoteStats};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $field:ident = $counter:ident),* $(,)?) => {
        /// What happened so far, in numbers: of one policy, or of all. Counts of this process since it was built.
        ///
        /// The numbers are not read in one instant: under traffic they can be a few calls apart.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $( $(#[doc = $doc])+ pub $field: u64, )*
            /// Changes by others that L2 told of. This and what follows is of the larder as a whole, and zero for a policy.
            pub pushes: u64,
            /// How often a connection to L2, or a subscription, was lost.
            pub lanes_lost: u64,
            /// Probes that did not come back: a connection was alive, but L2's pushes did not reach it.
            pub probe_failures: u64,
            /// How long the push of the latest probe took to arrive.
            pub push_lag: Option<Duration>,
            /// Invalidations that could not be sent yet, because L2 is out of reach: other processes may still be served
            /// what they make out of date.
            pub unsent: u64,
            /// Intents of an outbox that were confirmed, because their keys are gone from every level.
            pub outbox_drained: u64,
            /// Replays of an outbox in the background that failed.
            pub outbox_errors: u64,
            /// Whether L2 is asked at all.
            pub breaker: BreakerState,
            /// How often L2 was given up for a while, because it did not answer or took no writes.
            pub breaker_opened: u64,
            /// Invalidations that could not be sent at first, and were sent later.
            pub resent: u64,
        }

        #[derive(Clone, Copy)]
        pub(crate) enum Count { $($counter),* }

        const COUNTS: usize = [$(stringify!($counter)),*].len();

        impl Stats {
            /// The counts of a policy, each with its name.
            #[cfg(feature = "metrics")]
            pub(crate) fn counts(&self) -> [(&'static str, u64); COUNTS] {
                [$( (stringify!($field), self.$field) ),*]
            }
        }

        impl Counters {
            pub(crate) fn read(&self) -> Stats {
                Stats { $( $field: self.sum(Count::$counter), )* ..Stats::default() }
            }
        }

        impl Add for Stats {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self {
                    $( $field: self.$field + other.$field, )*
                    pushes: self.pushes + other.pushes,
                    lanes_lost: self.lanes_lost + other.lanes_lost,
                    probe_failures: self.probe_failures + other.probe_failures,
                    push_lag: self.push_lag.max(other.push_lag),
                    unsent: self.unsent + other.unsent,
                    outbox_drained: self.outbox_drained + other.outbox_drained,
                    outbox_errors: self.outbox_errors + other.outbox_errors,
                    breaker: self.breaker.max(other.breaker), // the worse one
                    breaker_opened: self.breaker_opened + other.breaker_opened,
                    resent: self.resent + other.resent,
                }
            }
        }
    };
}

stats! {
    /// Reads that L1 served.
    l1_hits = L1Hit,
    /// Values that L2 had: each was decoded once, however many callers shared it.
    l2_hits = L2Hit,
    /// Reads that were served a stale value, in place of a load.
    stale_hits = StaleHit,
    /// Plain `get`s that found nothing.
    misses = Miss,
    /// Loads that began.
    loads = Load,
    /// Of these, the ones that were to replace a value which is still served: stale, or ahead of its time.
    refreshes = Refresh,
    /// Loads that failed, panicked or timed out, or were not begun, for lack of room or of L2.
    load_errors = LoadError,
    /// Loaded or written values that were not kept, because somebody wrote or invalidated their key meanwhile.
    refused = Refused,
    /// Of these, the ones whose lease was lost, or marked by an invalidation.
    leases_lost = LeaseLost,
    /// Calls of `write_through`, `write_around` and `insert`.
    writes = Write,
    /// Keys that were invalidated by a call here: of `Cache::invalidate` or `Larder::invalidate`.
    invalidations = Invalidation,
    /// Values in L2 that did not decode, and were loaded anew.
    undecodable = Undecodable,
    /// Values that were not kept because they are too large or cannot be encoded.
    unstorable = Unstorable,
    /// Calls of L2 that failed.
    l2_errors = L2Error,
}

impl From<RemoteStats> for Stats {
    fn from(report: RemoteStats) -> Self {
        let RemoteStats {
            pushes,
            lanes_lost,
            probe_failures,
            push_lag,
            unsent,
            breaker,
            breaker_opened,
            resent,
        } = report;
        Self {
            pushes,
            lanes_lost,
            probe_failures,
            push_lag,
            unsent,
            breaker,
            breaker_opened,
            resent,
            ..Self::default()
        }
    }
}

/// So many threads have a shard of their own; those beyond share the last one.
const SHARDS: usize = 32;
const SHARED: usize = SHARDS - 1;

/// Counters that threads do not share, as far as there are shards: a hit writes to a cache line of its own thread.
#[derive(Debug, Default)]
pub(crate) struct Counters([Shard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTS]);

impl Counters {
    // Relaxed: a count orders nothing.
    #[inline]
    pub(crate) fn add(&self, count: Count) {
        let shard = shard();
        let counter = &self.0[shard].0[count as usize];
        if shard < SHARED {
            // Nobody else writes here, so this needs no atomic addition, which costs as much as all the rest.
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self, count: Count) -> u64 {
        self.0.iter().map(|shard| shard.0[count as usize].load(Ordering::Relaxed)).sum()
    }
}

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    static OWN_SHARD: OwnShard = OwnShard::take();
}

#[inline]
fn shard() -> usize {
    match SHARD.get() {
        shard if shard < SHARDS => shard,
        _ => assign_shard(),
    }
}

#[cold]
fn assign_shard() -> usize {
    // A thread that counts while it ends may have given its own back already.
    let shard = OWN_SHARD.try_with(|own| own.0).unwrap_or(SHARED);
    SHARD.set(shard);
    shard
}

/// A shard that no other thread has, until its thread ends.
struct OwnShard(usize);

/// Those that no thread has: all from `next` on, and what came back. Its lock hands a shard's counts on with the shard.
static FREE_SHARDS: Mutex<FreeShards> = Mutex::new(FreeShards { next: 0, returned: Vec::new() });

struct FreeShards {
    next: usize,
    returned: Vec<usize>,
}

impl OwnShard {
    fn take() -> Self {
        let mut free = FREE_SHARDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shard) = free.returned.pop() {
            return Self(shard);
        }
        let shard = free.next;
        free.next = (shard + 1).min(SHARED);
        Self(shard)
    }
}

impl Drop for OwnShard {
    fn drop(&mut self) {
        SHARD.set(SHARED);
        if self.0 < SHARED {
            FREE_SHARDS.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_summed_and_a_thread_leaves_its_shard_to_the_next() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..100).for_each(|_| counters.add(Count::L1Hit)));
            }
        });
        counters.add(Count::Load);
        for _ in 0..10 * SHARDS {
            let own = || {
                counters.add(Count::L2Hit);
                shard()
            };
            assert_ne!(std::thread::scope(|scope| scope.spawn(own).join().unwrap()), SHARED);
        }
        let stats = counters.read();
        assert_eq!((stats.l1_hits, stats.loads, stats.l2_hits), (4000, 1, 10 * SHARDS as u64));
        assert_eq!((stats + stats).l1_hits, 8000);
    }
}
