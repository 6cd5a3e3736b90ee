use std::thread::available_parallelism;

use larder_core::Capacity;
use quick_cache::{Options, OptionsBuilder};

/// Into how many parts a store is divided, each with its own lock and its own share of the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// A power of two.
    count: u64,
    /// What each may hold, in the capacity's unit.
    room: u64,
    /// How many entries each may come to hold, about.
    entries: u64,
}

/// So many parts for each core, where quick_cache by itself has four: so that threads which hit at once seldom want the same
/// part, whose lock each of them writes to.
const PARTS_PER_CORE: u64 = 16;

/// A part has room for so many entries, if the store has: parts evict by themselves, and the smaller they are, the more
/// they differ in how full they are.
const LEAST_ENTRIES: u64 = 128;

/// A part has room for this weight, if the store has: an entry that is heavier than its part is not kept.
const LEAST_WEIGHT: u64 = 4 << 20;

/// What an entry weighs, about. It decides how many evicted keys are remembered, so an order of magnitude is enough.
const TYPICAL_WEIGHT: u64 = 512;

impl Parts {
    pub(crate) fn of(capacity: Capacity) -> Self {
        Self::for_cores(capacity, available_parallelism().map_or(1, |cores| cores.get() as u64))
    }

    fn for_cores(capacity: Capacity, cores: u64) -> Self {
        let (total, least, weight) = match capacity {
            Capacity::Entries(entries) => (entries, LEAST_ENTRIES, 1),
            Capacity::Weight(weight) => (weight, LEAST_WEIGHT, TYPICAL_WEIGHT),
        };
        let mut count = (cores * PARTS_PER_CORE).next_power_of_two();
        while count > 1 && total / count < least {
            count /= 2;
        }
        // Rounded down, so that all parts together hold no more than the capacity.
        let room = total / count;
        Self { count, room, entries: (room / weight).max(LEAST_ENTRIES) }
    }

    pub(crate) fn options(self) -> Options {
        let (count, entries) = (whole(self.count), whole(self.count.saturating_mul(self.entries)));
        let mut options = OptionsBuilder::new();
        options.shards(count).estimated_items_capacity(entries).weight_capacity(self.count * self.room);
        #[expect(clippy::expect_used, reason = "it fails only if a capacity is not given")]
        options.build().expect("both capacities are given")
    }
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_the_capacity_and_no_more() {
        for (entries, cores) in [(0, 1), (1, 64), (100, 2), (101, 2), (100_000, 1), (1_000_003, 64)] {
            let parts = Parts::for_cores(Capacity::Entries(entries), cores);
            assert!(parts.count * parts.room <= entries, "{entries}");
            assert!(parts.count * (parts.room + 1) > entries, "{entries}");
            assert!(parts.count == 1 || parts.room >= LEAST_ENTRIES, "{entries}");
        }
    }

    #[test]
    fn small_store_is_not_cut_into_parts_that_refuse_large_entries() {
        let parts = |bytes| Parts::for_cores(Capacity::Weight(bytes), 16);
        assert_eq!(parts(1000).count, 1);
        assert_eq!(parts(64 << 20).count, 16);
        assert_eq!(parts(1 << 30).count, 256);
        assert_eq!(parts(1 << 30).entries, (4 << 20) / TYPICAL_WEIGHT);
    }

    /// What quick_cache makes of it is what was asked for.
    #[test]
    fn parts_are_made_as_they_were_planned() {
        for capacity in [Capacity::Entries(100), Capacity::Entries(100_000), Capacity::Weight(64 << 20)] {
            let parts = Parts::of(capacity);
            let cache = quick_cache::sync::Cache::<u64, u64>::with_options(
                parts.options(),
                quick_cache::UnitWeighter,
                quick_cache::DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            );
            assert_eq!((cache.num_shards() as u64, cache.shard_capacity()), (parts.count, parts.room));
        }
    }
}
