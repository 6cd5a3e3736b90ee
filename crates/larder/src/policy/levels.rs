use std::sync::Arc;

use larder_core::{
    AnyValue, Entry, Generations, Key, KeyRef, LaneIndex, LaneState, Life, Moment, Phase,
    PolicyIndex, RemoteStore, Stamp, TagStamp,
};
use larder_lock::{Aging, Leases, Lookup};

use crate::{l1::L1, value::CachedValue};

/// The levels in which a policy's entries live, and the generations that say what L1 may serve.
#[derive(Debug)]
pub(crate) struct Levels {
    /// Where entries are looked up and kept; `None` for a policy that has L2 alone.
    served: Option<Arc<L1>>,
    /// The process's L1, from which keys are removed whatever the policy.
    l1: Arc<L1>,
    leases: Option<Leases>,
    generations: Arc<Generations>,
    /// The policy's own generation.
    index: PolicyIndex,
}

impl Levels {
    /// Makes the levels of the policy with this index. `has_l1` says whether L1 keeps its entries.
    pub(crate) fn new(
        l1: Arc<L1>,
        has_l1: bool,
        leases: Option<Leases>,
        generations: Arc<Generations>,
        index: PolicyIndex,
    ) -> Self {
        Self {
            served: has_l1.then(|| l1.clone()),
            l1,
            leases,
            generations,
            index,
        }
    }

    /// The leases of L2, if the policy has one.
    pub(crate) fn leases(&self) -> Option<&Leases> {
        self.leases.as_ref()
    }

    /// L2, if the policy has one.
    pub(crate) fn remote(&self) -> Option<&Arc<dyn RemoteStore>> {
        self.leases.as_ref().map(Leases::remote)
    }

    pub(crate) fn has_l1(&self) -> bool {
        self.served.is_some()
    }

    pub(crate) fn generations(&self) -> &Arc<Generations> {
        &self.generations
    }

    /// Looks into L1 on the way of a hit: `see` may take the entry to pieces where it lies.
    #[inline]
    pub(crate) fn look<R>(
        &self,
        key: KeyRef<'_>,
        see: impl FnOnce(&mut Entry, Phase) -> R,
    ) -> Option<R> {
        self.served.as_ref()?.look(key, see)
    }

    /// Looks into L1 again, after [`look`](Self::look).
    pub(crate) fn look_again(&self, key: &Key) -> Lookup<CachedValue> {
        let Some(l1) = &self.served else {
            return Lookup::Absent(None);
        };
        // P28 stale-only-while-current: not the entry's own stamp, which another key that shares
        // its generation may have outdated long ago. L1 holds only current entries, so the
        // invalidations from now on count.
        let stamp = self.stamp(key);
        let Some((Entry { value, tags, .. }, phase)) = l1.get_uncounted(key.as_ref()) else {
            return Lookup::Absent(None);
        };
        let value = CachedValue::plain(value);
        match phase {
            Phase::Fresh => Lookup::Fresh(value),
            Phase::Due | Phase::Stale => {
                let ends = Moment::NEVER; // L2's bytes are not known
                Lookup::Aging(Aging {
                    value,
                    phase,
                    stamp,
                    tags,
                    digest: None,
                    ends,
                })
            }
        }
    }

    /// Keeps a value in L1, if the policy has one. `size` is the length of its encoded form, where
    /// L1 is bounded by bytes.
    pub(crate) fn keep(
        &self,
        key: &Key,
        value: Option<AnyValue>,
        life: Life,
        stamp: Stamp,
        tags: Option<Arc<TagStamp>>,
        size: usize,
    ) {
        /// About 200 bytes: an entry takes them beside its key and value.
        const OVERHEAD: usize = 200;
        let Some(l1) = &self.served else { return };
        let weight = u32::try_from(size + key.as_str().len() + OVERHEAD).unwrap_or(u32::MAX);
        l1.insert(
            key,
            Entry {
                value,
                life,
                stamp,
                tags,
                weight,
            },
        );
    }

    /// Removes the key's entry from L1, without making outdated what is on its way there.
    pub(crate) fn remove(&self, key: &Key) {
        self.l1.remove(key.as_ref());
    }

    pub(crate) fn invalidate_locally(&self, key: &Key) {
        invalidate_locally(&self.generations, &self.l1, key.as_ref());
    }

    /// Takes the key's stamp. Call it before the value is read or loaded.
    pub(crate) fn stamp(&self, key: &Key) -> Stamp {
        self.generations
            .stamp(key.hash(), self.lane(key), self.index)
    }

    pub(crate) fn is_current(&self, key: &Key, stamp: &Stamp) -> bool {
        self.generations.is_current(key.hash(), stamp)
    }

    /// The lane of L2 that serves this key.
    pub(crate) fn lane(&self, key: &Key) -> LaneIndex {
        self.remote()
            .map_or(LaneIndex::NONE, |remote| remote.lane(key.as_str()))
    }

    /// The state of that lane; `None` without an L2.
    pub(crate) fn lane_state(&self, key: &Key) -> Option<LaneState> {
        self.remote()
            .map(|remote| remote.lane_state(remote.lane(key.as_str())))
    }
}

/// Makes a key's values outdated and removes its entry from L1, in this order: a value that is on
/// its way is outdated before the entry is gone.
pub(crate) fn invalidate_locally(generations: &Generations, l1: &L1, key: KeyRef<'_>) {
    generations.bump_key(key.hash());
    l1.remove(key);
}
