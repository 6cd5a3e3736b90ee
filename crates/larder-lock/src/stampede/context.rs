use std::sync::Arc;

use larder_core::{
    Clock, Generations, Key, LaneIndex, PolicyIndex, RemoteStore, Stamp, Tags, Want,
};

use super::{
    caller::Failure, limits::LoadLimits, load_queue::LoadQueue, reload_backoff::ReloadBackoff,
};
use crate::{Follower, Leases, Nesting, TagEpochs, Waiting, Work};

/// Everything that a [`StampedeLock`](super::StampedeLock) must know of its caller.
#[derive(Clone, Debug)]
pub struct StampedeConfig {
    /// The leases of the remote store; without them the lock works within this process.
    pub leases: Option<Leases>,
    /// The generations of the process's keys.
    pub generations: Arc<Generations>,
    /// The index of the generation that all keys of the lock share.
    pub policy: PolicyIndex,
    /// The tags of the process, if values may have any.
    pub tags: Option<Arc<Tags>>,
    /// The clock of the values' lives.
    pub clock: Clock,
    /// How long the lock waits, and how many loads it runs.
    pub limits: LoadLimits,
    /// Whether [`Reader::accept`](super::caller::Reader::accept) keeps values in a local level,
    /// where later callers find them.
    pub keeps_locally: bool,
    /// The loads and writes of the process that wait for others.
    pub nesting: Arc<Nesting>,
    /// Whether [`Reader::accept`](super::caller::Reader::accept) needs the rest of a value's life,
    /// which costs a second command.
    pub want: Want,
}

/// The state that the calls and tasks of a lock share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: StampedeConfig,
    pub(super) queue: Arc<LoadQueue>,
    pub(super) backoff: ReloadBackoff,
}

/// One call: the read, and the load that it brings along.
#[derive(Debug)]
pub struct Request<R, L> {
    /// The key.
    pub key: Key,
    /// The read.
    pub reader: R,
    /// The load, not begun yet.
    pub loader: L,
    /// Whether the loader is a part of a larger one, which takes one of `max_loads` for all its
    /// parts.
    pub in_batch: bool,
}

impl Context {
    pub(super) fn new(config: StampedeConfig) -> Self {
        let generations = config.generations.clone();
        let queue = LoadQueue::new(generations, config.policy, &config.limits);
        Self {
            config,
            queue,
            backoff: ReloadBackoff::default(),
        }
    }

    pub(super) fn leases(&self) -> Option<&Leases> {
        self.config.leases.as_ref()
    }

    pub(super) fn remote(&self) -> Option<&Arc<dyn RemoteStore>> {
        self.leases().map(Leases::remote)
    }

    pub(super) fn generations(&self) -> &Generations {
        &self.config.generations
    }

    pub(super) fn lane(&self, key: &Key) -> LaneIndex {
        self.remote()
            .map_or(LaneIndex::NONE, |remote| remote.lane(key.as_str()))
    }

    // P1 stamp-before-read: taken before the read or the load begins
    pub(super) fn stamp(&self, key: &Key) -> Stamp {
        self.generations()
            .stamp(key.hash(), self.lane(key), self.config.policy)
    }

    /// The work whose loader or writer makes this call.
    pub(super) fn outer(&self) -> Option<Work> {
        Work::current(&self.config.nesting)
    }

    /// Notes that the work around the call, if there is any, waits for a load of this key.
    pub(super) fn wait_for_load(&self, key: &Key) -> Result<Option<Waiting>, Failure> {
        let waiting = self.outer().map(|outer| outer.wait_for_load(key));
        waiting.transpose().map_err(Failure::Deadlock)
    }

    /// Has a load that a caller follows run as soon as it may. If the work around the call has
    /// taken one of `max_loads`, the load takes none.
    pub(super) fn follow<V>(&self, key: &Key, load: &Follower<V>) {
        let policy = self.config.policy;
        if self.outer().is_some_and(|outer| outer.holds(policy)) {
            load.uncount();
        }
        self.queue.recheck(key);
    }

    /// The tag epochs of this moment.
    pub(super) async fn tag_epochs(&self, key: &Key) -> TagEpochs {
        let Some(tags) = &self.config.tags else {
            return TagEpochs::default();
        };
        TagEpochs::now(tags, self.remote().map(|remote| &**remote), self.lane(key)).await
    }
}
