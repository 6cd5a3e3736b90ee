use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Weak,
};

use bytes::Bytes;

use crate::{
    clock::Moment,
    digest::Digest,
    generations::LaneIndex,
    remote::types::{Push, PushListener, RemoteEvent, Replacing, Stored},
    tags::TagEpoch,
    token::Token,
};

/// Sorted, where it is walked, so that a test can repeat the order of pushes.
#[derive(Default)]
pub(super) struct State {
    pub(super) values: BTreeMap<String, (Bytes, Moment)>,
    pub(super) leases: BTreeMap<String, Lease>,
    /// E, and T(t) of each tag that is pinned, with its end.
    pub(super) epoch: TagEpoch,
    pub(super) tags: HashMap<String, (TagEpoch, Moment)>,
    /// The connections that have read a name and are told of its next change.
    pub(super) tracking: HashMap<(Kind, String), BTreeSet<u64>>,
    pub(super) listeners: BTreeMap<u64, Vec<Weak<dyn PushListener>>>,
    pub(super) next_id: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("values", &self.values.len())
            .field("leases", &self.leases.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Value,
    Lease,
    /// A tag, or E under the empty name.
    Tag,
}

pub(super) struct Lease {
    pub(super) token: Token,
    pub(super) until: Moment,
    pub(super) holder: Holder,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Reader,
    Writer,
    /// A writer whose key was invalidated meanwhile: its commit will be refused.
    DirtyWriter,
}

impl State {
    pub(super) fn value(&mut self, key: &str, now: Moment) -> Option<Stored> {
        let (value, until) = self.values.get(key)?;
        if *until <= now {
            self.values.remove(key);
            self.push(Kind::Value, key);
            return None;
        }
        let ttl = (*until != Moment::NEVER).then(|| until.since(now));
        Some(Stored {
            value: value.clone(),
            ttl,
        })
    }

    pub(super) fn lease(&mut self, key: &str, now: Moment) -> Option<&mut Lease> {
        if self.leases.get(key).is_some_and(|lease| lease.until <= now) {
            self.end_lease(key);
        }
        self.leases.get_mut(key)
    }

    pub(super) fn end_lease(&mut self, key: &str) {
        if self.leases.remove(key).is_some() {
            self.push(Kind::Lease, key);
        }
    }

    pub(super) fn track(&mut self, kind: Kind, key: &str, reader: u64) {
        self.tracking
            .entry((kind, key.to_owned()))
            .or_default()
            .insert(reader);
    }

    /// Tells all connections that track the name, also the writer's own, and stops tracking.
    pub(super) fn push(&mut self, kind: Kind, key: &str) {
        for reader in self
            .tracking
            .remove(&(kind, key.to_owned()))
            .unwrap_or_default()
        {
            self.tell(
                reader,
                match kind {
                    Kind::Value => Push::Value(key),
                    Kind::Lease => Push::Lease(key),
                    Kind::Tag if key.is_empty() => Push::TagEpoch(LANE),
                    Kind::Tag => Push::Tag(LANE, key),
                },
            );
        }
    }

    pub(super) fn tell(&self, reader: u64, push: Push<'_>) {
        let listeners = self.listeners.get(&reader).into_iter().flatten();
        listeners
            .filter_map(Weak::upgrade)
            .for_each(|listener| listener.on_push(push));
    }

    pub(super) fn tell_event(&self, id: u64, event: RemoteEvent) {
        let listeners = self.listeners.get(&id).into_iter().flatten();
        listeners
            .filter_map(Weak::upgrade)
            .for_each(|listener| listener.on_event(event));
    }

    pub(super) fn delete_value(&mut self, key: &str) {
        if self.values.remove(key).is_some() {
            self.push(Kind::Value, key);
        }
    }

    pub(super) fn tag(&mut self, tag: &str, now: Moment, reader: u64) -> Option<TagEpoch> {
        self.track(Kind::Tag, tag, reader);
        if self.tags.get(tag).is_some_and(|(_, until)| *until <= now) {
            self.tags.remove(tag);
            self.push(Kind::Tag, tag);
        }
        self.tags.get(tag).map(|(epoch, _)| *epoch)
    }

    pub(super) fn invalidate_tag(&mut self, tag: &str) {
        self.epoch.0 += 1;
        self.push(Kind::Tag, "");
        self.tags.remove(tag);
        self.push(Kind::Tag, tag);
    }

    pub(super) fn invalidate(&mut self, key: &str, own: Option<&Token>) {
        self.delete_value(key);
        match self.leases.get_mut(key) {
            Some(lease) if lease.holder == Holder::Reader || own == Some(&lease.token) => {
                self.end_lease(key);
            }
            Some(lease) => lease.holder = Holder::DirtyWriter,
            None => {}
        }
    }
}

/// The only lane.
pub(super) const LANE: LaneIndex = LaneIndex(0);

pub(super) fn many(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Tells whether the value is as a claim with this digest found it.
pub(super) fn is_as_found(stored: Option<&Stored>, replacing: Replacing<'_>) -> bool {
    match (stored, replacing) {
        (Some(stored), Replacing::Value(seen) | Replacing::Ended(seen)) => {
            *seen == Digest::of(&stored.value)
        }
        (None, Replacing::Nothing | Replacing::Ended(_)) => true,
        (Some(_), Replacing::Nothing) | (None, Replacing::Value(_)) => false,
    }
}
