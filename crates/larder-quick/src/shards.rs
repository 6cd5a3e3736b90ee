use std::thread::available_parallelism;

use larder_core::Capacity;
use quick_cache::{Options, OptionsBuilder};

/// The shards of a map. Each has a lock and a share of the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shards {
    /// A power of two.
    count: u64,
    /// The capacity of each, in the capacity's unit.
    room: u64,
    /// The number of entries that each may come to hold, approximately.
    entries: u64,
}

/// Shards for each core, 16, where quick_cache by itself has 4.
///
/// Threads that hit at the same time then seldom want the same shard, whose lock each of them
/// writes to.
const SHARDS_PER_CORE: u64 = 16;

/// Entries that a shard has room for, 128, if the map has.
///
/// Each shard evicts by itself. The smaller shards are, the more they differ in how full they are.
const LEAST_ENTRIES: u64 = 128;

/// Weight that a shard has room for, 4 MiB, if the map has. An entry that is heavier than its shard
/// is not kept.
const LEAST_WEIGHT: u64 = 4 << 20;

/// The typical weight of an entry, 512 bytes.
///
/// It decides how many evicted keys are remembered, so an order of magnitude is enough.
const TYPICAL_WEIGHT: u64 = 512;

impl Shards {
    pub(crate) fn of(capacity: Capacity) -> Self {
        Self::for_cores(
            capacity,
            available_parallelism().map_or(1, |cores| cores.get() as u64),
        )
    }

    fn for_cores(capacity: Capacity, cores: u64) -> Self {
        let (total, least, weight) = match capacity {
            Capacity::Entries(entries) => (entries, LEAST_ENTRIES, 1),
            Capacity::Weight(weight) => (weight, LEAST_WEIGHT, TYPICAL_WEIGHT),
        };
        let mut count = (cores * SHARDS_PER_CORE).next_power_of_two();
        while count > 1 && total / count < least {
            count /= 2;
        }
        // Rounded down, so that all shards together hold no more than the capacity.
        let room = total / count;
        Self {
            count,
            room,
            entries: (room / weight).max(LEAST_ENTRIES),
        }
    }

    pub(crate) fn options(self) -> Options {
        let (count, entries) = (
            whole(self.count),
            whole(self.count.saturating_mul(self.entries)),
        );
        let mut options = OptionsBuilder::new();
        options
            .shards(count)
            .estimated_items_capacity(entries)
            .weight_capacity(self.count * self.room);
        #[expect(
            clippy::expect_used,
            reason = "it fails only if a capacity is not given"
        )]
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
    fn shards_hold_the_capacity_and_no_more() {
        for (entries, cores) in [
            (0, 1),
            (1, 64),
            (100, 2),
            (101, 2),
            (100_000, 1),
            (1_000_003, 64),
        ] {
            let shards = Shards::for_cores(Capacity::Entries(entries), cores);
            assert!(shards.count * shards.room <= entries, "{entries}");
            assert!(shards.count * (shards.room + 1) > entries, "{entries}");
            assert!(
                shards.count == 1 || shards.room >= LEAST_ENTRIES,
                "{entries}"
            );
        }
    }

    #[test]
    fn small_store_is_not_cut_into_shards_that_refuse_large_entries() {
        let shards = |bytes| Shards::for_cores(Capacity::Weight(bytes), 16);
        assert_eq!(shards(1000).count, 1);
        assert_eq!(shards(64 << 20).count, 16);
        assert_eq!(shards(1 << 30).count, 256);
        assert_eq!(shards(1 << 30).entries, (4 << 20) / TYPICAL_WEIGHT);
    }

    /// quick_cache may round the options that it is given.
    #[test]
    fn shards_are_made_as_they_were_planned() {
        for capacity in [
            Capacity::Entries(100),
            Capacity::Entries(100_000),
            Capacity::Weight(64 << 20),
        ] {
            let shards = Shards::of(capacity);
            let cache = quick_cache::sync::Cache::<u64, u64>::with_options(
                shards.options(),
                quick_cache::UnitWeighter,
                quick_cache::DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            );
            assert_eq!(
                (cache.num_shards() as u64, cache.shard_capacity()),
                (shards.count, shards.room)
            );
        }
    }
}
