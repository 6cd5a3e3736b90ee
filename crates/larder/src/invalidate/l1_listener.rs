use std::sync::Arc;

use larder_core::{Generations, KeyRef, PolicyIndex, Push, PushListener, RemoteEvent, Tags};
use larder_lock::Waiters;

use crate::{
    l1::L1,
    observe::{Hook, tell_of_remote},
    policy::invalidate_locally,
};

/// Carries the remote store's pushes into this process's generations, tags, L1 and waiters.
#[derive(Debug)]
pub(crate) struct L1Listener {
    pub(crate) generations: Arc<Generations>,
    pub(crate) tags: Arc<Tags>,
    /// The text with which the keys of each policy begin, colon included, in the order of the
    /// table.
    pub(crate) prefixes: Vec<String>,
    pub(crate) l1: Arc<L1>,
    pub(crate) waiters: Waiters,
    pub(crate) hook: Option<Hook>,
}

impl PushListener for L1Listener {
    fn on_push(&self, push: Push<'_>) {
        match push {
            Push::Value(key) => invalidate_locally(&self.generations, &self.l1, KeyRef::new(key)),
            Push::Lease(_) => {} // what the waiters below are told
            // P10 loss-told-before-successor: what was read through the lane is not tracked any
            // more
            Push::Lane(lane) => {
                self.generations.bump_lane(lane);
                self.tags.forget_lane(lane);
            }
            // P24 tags-known-by-lane: unknown until it is read again
            Push::Tag(lane, tag) => self.tags.forget(lane, tag),
            Push::TagEpoch(lane) => self.tags.forget_epoch(lane),
            // P26 scripts-publish: a clear tells of its prefix
            Push::Prefix(prefix) => {
                for (index, of_policy) in self.prefixes.iter().enumerate() {
                    if of_policy == prefix {
                        self.generations.bump_policy(PolicyIndex::at(index));
                    }
                }
            }
        }
        self.waiters.on_push(push);
    }

    fn on_event(&self, event: RemoteEvent) {
        tell_of_remote(self.hook.as_ref(), event);
    }
}
