use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam_utils::CachePadded;

use crate::key::hash::KeyHash;

/// Generation counters of one process. They decide whether the process may still serve a value.
///
/// A value carries a [`Stamp`] from before it was read or loaded. A bump of a counter outdates
/// every value with an older generation, also a value that is still under way. A bump is one atomic
/// add, a check is one atomic load per counter.
///
/// | counter | one for each | bumped when |
/// | --- | --- | --- |
/// | key | group of keys, by hash | a key is invalidated or written here, or a push names it |
/// | lane | [`LaneIndex`] | a connection of the lane is lost, or its server was emptied |
/// | policy | [`PolicyIndex`] | the policy is cleared |
///
/// Keys share counters. A bump for one key also outdates the values of the others that are under
/// way. That costs one more read, and nothing worse.
///
/// # Examples
/// ```
/// use larder_core::{Generations, KeyRef, LaneIndex, PolicyIndex};
///
/// let generations = Generations::new(1024, 1, 1);
/// let key = KeyRef::new("user:42").hash();
///
/// let stamp = generations.stamp(key, LaneIndex(0), PolicyIndex(0)); // before the value is read
/// generations.bump_key(key); // another caller invalidates the key
/// assert!(!generations.is_current(key, &stamp)); // so the value must not be served
/// ```
#[derive(Debug)]
pub struct Generations {
    keys: Box<[AtomicU64]>,
    // Every hit reads one of each. A bump must not slow down the hits of others.
    lanes: Box<[CachePadded<AtomicU64>]>,
    policies: Box<[CachePadded<AtomicU64>]>,
}

/// The number of a lane: the connections that carry all calls for a part of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneIndex(pub u16);

/// The number of a policy: a group of keys that can be cleared together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyIndex(pub u16);

/// The generations that apply to a value, as they were before it was read or loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    key: u64,
    /// The sum of the lane's and the policy's generations. Both only grow, so two sums are equal
    /// only if both parts are.
    scope: u64,
    lane: LaneIndex,
    policy: PolicyIndex,
}

impl LaneIndex {
    /// Stands for no lane: a value that was not read from a remote store. It is never bumped.
    pub const NONE: Self = Self(u16::MAX);

    /// Counts lanes, from the first one.
    pub fn all(count: u16) -> impl Iterator<Item = Self> {
        (0..count).map(Self)
    }
}

impl fmt::Display for LaneIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PolicyIndex {
    /// Makes an index of a position. A position past 65,535 becomes the last index.
    pub fn at(position: usize) -> Self {
        Self(u16::try_from(position).unwrap_or(u16::MAX))
    }
}

impl Stamp {
    /// The lane through which the value is read.
    pub fn lane(&self) -> LaneIndex {
        self.lane
    }

    /// The stamp that is current after exactly one more bump of the key's counter.
    #[must_use]
    pub fn after_one(self) -> Self {
        Self {
            key: self.key.wrapping_add(1),
            ..self
        }
    }

    /// This stamp with the lane's and the policy's generations of an earlier one: a bump of either
    /// since then outdates it, too.
    #[must_use]
    pub fn with_scope_of(self, earlier: &Self) -> Self {
        Self {
            key: self.key,
            ..*earlier
        }
    }
}

impl Generations {
    /// Makes at least `keys` counters for keys, rounded up to a power of two, and one for each lane
    /// and policy.
    ///
    /// A lane past the end counts as [`LaneIndex::NONE`], a policy past the end as the last one.
    pub fn new(keys: usize, lanes: u16, policies: u16) -> Self {
        let padded = |n: u16| {
            (0..n)
                .map(|_| CachePadded::new(AtomicU64::new(0)))
                .collect()
        };
        let keys = keys.clamp(1, 1 << 30).next_power_of_two();
        Self {
            keys: (0..keys).map(|_| AtomicU64::new(0)).collect(),
            lanes: padded(lanes),
            policies: padded(policies.max(1)),
        }
    }

    /// Takes the stamp for a key. Call it **before** the value is read or loaded.
    // P1 stamp-before-read: the loads are Acquire, so that no part of the read moves before them.
    pub fn stamp(&self, key: KeyHash, lane: LaneIndex, policy: PolicyIndex) -> Stamp {
        let policy = self.within(policy);
        let generation = self.key_counter(key).load(Ordering::Acquire);
        Stamp {
            key: generation,
            scope: self.scope(lane, policy),
            lane,
            policy,
        }
    }

    /// Tells whether no counter of the stamp has been bumped since it was taken.
    // P2 only-current-is-served: the loads pair with the AcqRel adds of the bumps. A caller that
    // saw a bump return sees its effect.
    #[inline]
    pub fn is_current(&self, key: KeyHash, stamp: &Stamp) -> bool {
        self.key_counter(key).load(Ordering::Acquire) == stamp.key && self.scope_is_current(stamp)
    }

    /// Checks the stamp's lane and policy, but not its key.
    ///
    /// That is enough for an entry in a [`LocalStore`](crate::LocalStore): the store checked the
    /// key when it stored the entry, and a caller that bumps a key then removes its entry.
    #[inline]
    pub fn scope_is_current(&self, stamp: &Stamp) -> bool {
        self.scope(stamp.lane, stamp.policy) == stamp.scope
    }

    #[inline]
    fn scope(&self, lane: LaneIndex, policy: PolicyIndex) -> u64 {
        generation(&self.lanes, lane.0).wrapping_add(generation(&self.policies, policy.0))
    }

    /// The policy itself, or the last one if it is past the end.
    fn within(&self, policy: PolicyIndex) -> PolicyIndex {
        policy.min(PolicyIndex::at(self.policies.len() - 1))
    }

    /// Outdates every value of the key that is under way. Remove the stored entry **after** this
    /// call.
    pub fn bump_key(&self, key: KeyHash) {
        self.key_counter(key).fetch_add(1, Ordering::AcqRel);
    }

    /// Bumps the key if `stamp` is still current, and returns the stamp of the next generation.
    ///
    /// A writer calls it at its end. `Some`: no other write or invalidation of the key came since
    /// the stamp. The bump outdates every read that began before, so none of them can replace the
    /// writer's value.
    pub fn bump_key_if_current(&self, key: KeyHash, stamp: &Stamp) -> Option<Stamp> {
        if !self.scope_is_current(stamp) {
            return None;
        }
        let next = stamp.after_one();
        self.key_counter(key)
            .compare_exchange(stamp.key, next.key, Ordering::AcqRel, Ordering::Acquire)
            .ok()
            .map(|_| next)
    }

    /// Outdates every value that was read through this lane.
    pub fn bump_lane(&self, lane: LaneIndex) {
        if let Some(counter) = self.lanes.get(usize::from(lane.0)) {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Outdates every value of this policy.
    pub fn bump_policy(&self, policy: PolicyIndex) {
        let index = usize::from(self.within(policy).0);
        self.policies[index].fetch_add(1, Ordering::AcqRel);
    }

    #[inline]
    fn key_counter(&self, key: KeyHash) -> &AtomicU64 {
        // The length is a power of two, so the low bits of the hash choose a counter.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the mask keeps the low bits only"
        )]
        let index = (key.0 as usize) & (self.keys.len() - 1);
        &self.keys[index]
    }
}

/// Reads a counter. One past the end has never been bumped.
#[inline]
fn generation(counters: &[CachePadded<AtomicU64>], index: u16) -> u64 {
    counters
        .get(usize::from(index))
        .map_or(0, |counter| counter.load(Ordering::Acquire))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: KeyHash = KeyHash(1);
    const OTHER: KeyHash = KeyHash(6);

    #[test]
    fn fresh_stamp_is_current_until_a_counter_of_its_own_is_bumped() {
        let generations = Generations::new(8, 2, 2);
        let bumps: [fn(&Generations); 3] = [
            |all| all.bump_key(ONE),
            |all| all.bump_lane(LaneIndex(1)),
            |all| all.bump_policy(PolicyIndex(1)),
        ];
        for bump in bumps {
            let stamp = generations.stamp(ONE, LaneIndex(1), PolicyIndex(1));
            assert!(generations.is_current(ONE, &stamp));
            generations.bump_key(OTHER);
            generations.bump_lane(LaneIndex(0));
            generations.bump_policy(PolicyIndex(0));
            assert!(
                generations.is_current(ONE, &stamp),
                "foreign counters do not matter"
            );
            bump(&generations);
            assert!(!generations.is_current(ONE, &stamp));
        }
    }

    #[test]
    fn stamp_with_an_earlier_scope_is_outdated_by_a_bump_of_the_lane_since_then() {
        let generations = Generations::new(8, 1, 1);
        let stamp = || generations.stamp(ONE, LaneIndex(0), PolicyIndex(0));
        let earlier = stamp();
        let is_current = || generations.is_current(ONE, &stamp().with_scope_of(&earlier));
        generations.bump_key(ONE);
        assert!(is_current(), "the key's generation is a new one");
        generations.bump_lane(LaneIndex(0));
        assert!(!is_current());
    }

    #[test]
    fn two_writers_that_overlap_never_both_end_current() {
        let generations = Generations::new(8, 1, 1);
        let stamp = || generations.stamp(ONE, LaneIndex(0), PolicyIndex(0));
        generations.bump_key(ONE);
        let first = stamp();
        generations.bump_key(ONE);
        let second = stamp();
        assert_eq!(generations.bump_key_if_current(ONE, &first), None);
        let stored = generations.bump_key_if_current(ONE, &second).unwrap();
        assert!(generations.is_current(ONE, &stored));
        assert!(
            !generations.is_current(ONE, &second),
            "a read that began before is outdated"
        );
    }

    #[test]
    fn lane_past_the_end_is_never_bumped_and_a_policy_there_is_the_last_one() {
        let generations = Generations::new(0, 2, 0);
        let stamp = generations.stamp(ONE, LaneIndex::NONE, PolicyIndex(9));
        for lane in [0, 1, 2, 3, u16::MAX].map(LaneIndex) {
            generations.bump_lane(lane);
        }
        assert!(generations.is_current(ONE, &stamp));
        generations.bump_policy(PolicyIndex(3));
        assert!(!generations.is_current(ONE, &stamp));
    }
}
