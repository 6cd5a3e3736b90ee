use std::{
    cell::Cell,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::stats::{COUNTS, Count, Stats};

/// 32 shards: each of 31 threads has one of its own; all others share the last.
const SHARDS: usize = 32;
const SHARED: usize = SHARDS - 1;

/// Counters that threads do not share, as far as there are shards: a hit writes to a cache line of
/// its own thread.
#[derive(Debug, Default)]
pub(crate) struct Counters([Shard; SHARDS]);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; COUNTS]);

impl Counters {
    /// Sums up what the threads have counted.
    pub(crate) fn read(&self) -> Stats {
        Stats::of(|count| self.sum(count))
    }

    // Relaxed: a count orders nothing.
    #[inline]
    pub(crate) fn add(&self, count: Count) {
        let shard = shard();
        let counter = &self.0[shard].0[count as usize];
        if shard < SHARED {
            // Nobody else writes here, so this needs no atomic addition, which costs as much as all
            // the rest.
            counter.store(
                counter.load(Ordering::Relaxed).wrapping_add(1),
                Ordering::Relaxed,
            );
        } else {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn sum(&self, count: Count) -> u64 {
        self.0
            .iter()
            .map(|shard| shard.0[count as usize].load(Ordering::Relaxed))
            .sum()
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

/// Those that no thread has: all from `next` on, and what came back. Its lock hands a shard's
/// counts on with the shard.
static FREE_SHARDS: Mutex<FreeShards> = Mutex::new(FreeShards {
    next: 0,
    returned: Vec::new(),
});

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
            FREE_SHARDS
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .returned
                .push(self.0);
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
            assert_ne!(
                std::thread::scope(|scope| scope.spawn(own).join().unwrap()),
                SHARED
            );
        }
        let stats = counters.read();
        assert_eq!(
            (stats.l1_hits, stats.loads, stats.l2_hits),
            (4000, 1, 10 * SHARDS as u64)
        );
        assert_eq!((stats + stats).l1_hits, 8000);
    }
}
