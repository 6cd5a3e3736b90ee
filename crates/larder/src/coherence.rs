use std::sync::Arc;

use larder_core::{Generations, KeyRef, LocalStore, Push, PushListener, RemoteEvent, Tags};
use larder_lock::Waiters;

use crate::{
    events::{Hook, tell_of_remote},
    l1::L1,
};

/// Carries what the remote store tells into this process's cells, L1 and waiters.
#[derive(Debug)]
pub(crate) struct Coherence {
    pub(crate) generations: Arc<Generations>,
    pub(crate) tags: Arc<Tags>,
    /// What the keys of each policy begin with, in the order of the namespace cells.
    pub(crate) prefixes: Vec<String>,
    pub(crate) l1: Arc<L1>,
    pub(crate) waiters: Waiters,
    pub(crate) hook: Option<Hook>,
}

impl PushListener for Coherence {
    fn on_push(&self, push: Push<'_>) {
        match push {
            Push::Value(key) => invalidate_locally(&self.generations, &self.l1, KeyRef::new(key)),
            Push::Lease(_) => {}
            // P10 loss-told-before-successor: nothing that was read through the lane is tracked any more.
            Push::Lane(lane) => {
                self.generations.bump_lane(lane);
                self.tags.forget_lane(lane);
            }
            // P24 tags-known-by-lane: unknown until it is read again.
            Push::Tag(lane, tag) => self.tags.forget(lane, tag),
            Push::TagEpoch(lane) => self.tags.forget_epoch(lane),
            // P26 scripts-publish
            Push::Prefix(prefix) => {
                for (namespace, of_row) in self.prefixes.iter().enumerate() {
                    if of_row == prefix {
                        self.generations.bump_policy(u16::try_from(namespace).unwrap_or(u16::MAX));
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

/// The two steps of every invalidation, in this order: what is under way is out of date before the entry is gone.
pub(crate) fn invalidate_locally(generations: &Generations, l1: &L1, key: KeyRef<'_>) {
    generations.bump_key(key.hash());
    l1.remove(key);
}
