use std::sync::Arc;

use larder_core::{Cells, KeyRef, LocalStore, Push, PushListener, RemoteEvent, Tags};
use larder_lock::Waiters;

use crate::{
    events::{Hook, tell_of_remote},
    l1::L1,
};

/// Carries what the remote store tells into this process's cells, L1 and waiters.
#[derive(Debug)]
pub(crate) struct Coherence {
    pub(crate) cells: Arc<Cells>,
    pub(crate) tags: Arc<Tags>,
    /// What the keys of each row begin with, in the order of the namespace cells.
    pub(crate) prefixes: Vec<String>,
    pub(crate) l1: Arc<L1>,
    pub(crate) waiters: Waiters,
    pub(crate) hook: Option<Hook>,
}

impl PushListener for Coherence {
    fn on_push(&self, push: Push<'_>) {
        match push {
            Push::Value(key) => invalidate_locally(&self.cells, &self.l1, KeyRef::new(key)),
            Push::Lease(_) => {}
            // P10: nothing that was read through the lane is tracked any more.
            Push::Lane(lane) => {
                self.cells.advance_lane(lane);
                self.tags.forget_lane(lane);
            }
            // P24: unknown until it is read again.
            Push::Tag(lane, tag) => self.tags.forget(lane, tag),
            Push::Order(lane) => self.tags.forget_order(lane),
            // P26
            Push::Prefix(prefix) => {
                for (namespace, of_row) in self.prefixes.iter().enumerate() {
                    if of_row == prefix {
                        self.cells.advance_namespace(u16::try_from(namespace).unwrap_or(u16::MAX));
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
pub(crate) fn invalidate_locally(cells: &Cells, l1: &L1, key: KeyRef<'_>) {
    cells.advance_key(key.hash());
    l1.remove(key);
}
