use std::sync::atomic::{AtomicU64, Ordering};

/// The cells of one process: generation counters that say which values may still be served.
///
/// A value carries a [`Stamp`] that was taken before the value was read or loaded. To advance a cell is to make every
/// value with an older generation of it out of date, also if it is still under way. An advance is one atomic add, a
/// check is one atomic load for each cell. A [`LocalStore`](crate::LocalStore) says who checks which cell when.
///
/// There is a *key cell* for each key (keys share cells by hash: at worst a value is needlessly not kept), a *lane
/// cell* for each connection to the remote store, and a *namespace cell* for each row of the TTL table.
#[derive(Debug)]
pub struct Generations {
    keys: Box<[AtomicU64]>,
    lanes: Box<[AtomicU64]>,
    namespaces: Box<[AtomicU64]>,
}

/// The generations of a value's cells, as they were before the value was read or loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    key: u64,
    /// The sum of the lane's and the namespace's generations. Both only grow, so it is the same only if both are.
    scope: u64,
    lane: u16,
    namespace: u16,
}

impl Stamp {
    /// The lane through which the value is read.
    pub fn lane(&self) -> u16 {
        self.lane
    }

    /// The stamp of what is current after exactly one more advance of the key's cell.
    #[must_use]
    pub fn after_one(self) -> Self {
        Self { key: self.key.wrapping_add(1), ..self }
    }
}

impl Generations {
    /// The lane of what was read through none: its cell is never advanced.
    pub const NO_LANE: u16 = u16::MAX;

    /// Makes at least `keys` key cells (rounded up to a power of two), and a cell for each lane and namespace.
    ///
    /// A lane past the end is as [`NO_LANE`](Self::NO_LANE), a namespace past the end is the last one.
    pub fn new(keys: usize, lanes: u16, namespaces: u16) -> Self {
        let generations = |n: usize| (0..n).map(|_| AtomicU64::new(0)).collect();
        Self {
            keys: generations(keys.clamp(1, 1 << 30).next_power_of_two()),
            lanes: generations(usize::from(lanes)),
            namespaces: generations(usize::from(namespaces.max(1))),
        }
    }

    /// Takes the stamp for the key with this hash. Call it **before** the value is read or loaded.
    // P1 stamp-before-read: the loads are Acquire, so that no part of the read that follows is moved in front of them.
    pub fn stamp(&self, key_hash: u64, lane: u16, namespace: u16) -> Stamp {
        let namespace = self.namespace(namespace);
        let key = self.key_cell(key_hash).load(Ordering::Acquire);
        Stamp { key, scope: self.scope(lane, namespace), lane, namespace }
    }

    /// Tells whether no cell of the stamp has been advanced since it was taken.
    // P2 only-current-is-served: the loads pair with the AcqRel adds of the advances; a caller that saw an advance return sees its effect.
    #[inline]
    pub fn is_current(&self, key_hash: u64, stamp: &Stamp) -> bool {
        self.key_cell(key_hash).load(Ordering::Acquire) == stamp.key && self.scope_is_current(stamp)
    }

    /// The same without the key's cell: all that is to be checked of an entry that a [`LocalStore`] holds, which was
    /// current when it was stored, and is removed when its key's cell is advanced.
    ///
    /// [`LocalStore`]: crate::LocalStore
    #[inline]
    pub fn scope_is_current(&self, stamp: &Stamp) -> bool {
        self.scope(stamp.lane, stamp.namespace) == stamp.scope
    }

    #[inline]
    fn scope(&self, lane: u16, namespace: u16) -> u64 {
        generation(&self.lanes, lane).wrapping_add(generation(&self.namespaces, namespace))
    }

    /// One past the end is the last one.
    fn namespace(&self, index: u16) -> u16 {
        index.min(u16::try_from(self.namespaces.len() - 1).unwrap_or(u16::MAX))
    }

    /// Makes every value of this key that is under way out of date. What is stored is to be removed **after** it.
    pub fn bump_key(&self, key_hash: u64) {
        self.key_cell(key_hash).fetch_add(1, Ordering::AcqRel);
    }

    /// Advances the key cell if `stamp` is still current, and returns the stamp for the generation that follows.
    ///
    /// A writer ends with it: `Some` says that no other write or invalidation of the key came between, and makes
    /// every read that began before out of date, so that none of them can replace what the writer stores.
    pub fn bump_key_if_current(&self, key_hash: u64, stamp: &Stamp) -> Option<Stamp> {
        if !self.scope_is_current(stamp) {
            return None;
        }
        let next = stamp.after_one();
        self.key_cell(key_hash)
            .compare_exchange(stamp.key, next.key, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| next)
    }

    /// Makes everything that was read through this lane out of date.
    pub fn bump_lane(&self, lane: u16) {
        if let Some(cell) = self.lanes.get(usize::from(lane)) {
            cell.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Makes every value of this namespace out of date.
    pub fn bump_policy(&self, namespace: u16) {
        self.namespaces[usize::from(self.namespace(namespace))].fetch_add(1, Ordering::AcqRel);
    }

    #[inline]
    fn key_cell(&self, key_hash: u64) -> &AtomicU64 {
        // The length is a power of two, so the low bits of the hash choose a cell.
        #[expect(clippy::cast_possible_truncation, reason = "the mask keeps the low bits only")]
        let index = (key_hash as usize) & (self.keys.len() - 1);
        &self.keys[index]
    }
}

/// What is not there has not been advanced.
#[inline]
fn generation(generations: &[AtomicU64], index: u16) -> u64 {
    generations.get(usize::from(index)).map_or(0, |cell| cell.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_stamp_is_current_until_a_cell_of_its_own_advances() {
        let generations = Generations::new(8, 2, 2);
        let advances: [fn(&Generations); 3] = [|c| c.bump_key(5), |c| c.bump_lane(1), |c| c.bump_policy(1)];
        for advance in advances {
            let stamp = generations.stamp(5, 1, 1);
            assert!(generations.is_current(5, &stamp));
            generations.bump_key(6);
            generations.bump_lane(0);
            generations.bump_policy(0);
            assert!(generations.is_current(5, &stamp), "foreign generations do not matter");
            advance(&generations);
            assert!(!generations.is_current(5, &stamp));
        }
    }

    #[test]
    fn two_writers_that_overlap_never_both_end_current() {
        let generations = Generations::new(8, 1, 1);
        generations.bump_key(1);
        let first = generations.stamp(1, 0, 0);
        generations.bump_key(1);
        let second = generations.stamp(1, 0, 0);
        assert_eq!(generations.bump_key_if_current(1, &first), None);
        let stored = generations.bump_key_if_current(1, &second).unwrap();
        assert!(generations.is_current(1, &stored));
        assert!(!generations.is_current(1, &second), "a read that began before is out of date");
    }

    #[test]
    fn lane_past_the_end_is_never_advanced_and_a_namespace_there_is_the_last_one() {
        let generations = Generations::new(0, 2, 0);
        let stamp = generations.stamp(u64::MAX, Generations::NO_LANE, 9);
        for lane in [0, 1, 2, 3, Generations::NO_LANE] {
            generations.bump_lane(lane);
        }
        assert!(generations.is_current(u64::MAX, &stamp));
        generations.bump_policy(3);
        assert!(!generations.is_current(u64::MAX, &stamp));
    }
}
