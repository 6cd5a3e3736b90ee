//! The work of a process with its generations, its L1, and the messages of its lane.

use crate::{
    Mutant, Protocol,
    state::{Entry, Link, Message, Name, Process, Reply, Stamp, State},
};

impl Process {
    pub(crate) fn stamp(&self) -> Stamp {
        Stamp {
            key: self.key_generation,
            lane: self.lane_generation,
            policy: self.policy_generation,
        }
    }

    /// Whether commands can be sent, as far as the process knows.
    pub(crate) fn can_ask(&self) -> bool {
        matches!(self.link, Link::Up | Link::Cut | Link::Bumped)
    }

    pub(crate) fn forget_tag(&mut self) {
        self.tag.generation += 1;
        self.tag.known = None;
    }
}

impl Protocol {
    /// Renews the stamp of an operation that goes on without L2.
    ///
    /// P31 kept-only-while-away: the generations of the lane and the policy stay those from before
    /// L2 was asked.
    pub(crate) fn renew_without_l2(&self, state: &mut State, op: usize, asked: Stamp) {
        let now = state.processes[state.ops[op].process].stamp();
        state.ops[op].stamp = if self.without_l2 || self.is(Mutant::KeptOverReconnect) {
            now
        } else {
            Stamp {
                key: now.key,
                ..asked
            }
        };
    }

    /// Outdates all that was read through the lane, and wakes its waiters: no push comes for them
    /// any more.
    pub(crate) fn bump_lane(&self, state: &mut State, at: usize) {
        let process = &mut state.processes[at];
        process.lane_generation += 1;
        if !self.is(Mutant::LossKeepsTags) {
            process.forget_tag();
        }
        self.wake(state, at);
    }

    /// The two steps of every local invalidation.
    pub(crate) fn invalidate_locally(&self, process: &mut Process) {
        process.key_generation += 1;
        if !self.is(Mutant::BumpWithoutRemoval) {
            process.l1 = None;
        }
    }

    /// The entry that L1 would serve now.
    pub(crate) fn served_by_l1(&self, process: &Process) -> Option<Entry> {
        let entry = process.l1?;
        let (seen, now) = (entry.stamp, process.stamp());
        let tag_is_pinned = match entry.tag {
            None => true,
            Some(_) if self.is(Mutant::TagIgnored) => true,
            Some((epoch, generation)) => {
                let is_same =
                    generation == process.tag.generation || self.is(Mutant::LearnForgotten);
                is_same && process.tag.known.is_some_and(|pinned| pinned <= epoch)
            }
        } && entry.own_tag.is_none_or(|own| own == process.own_tag);
        (process.alive && seen.lane == now.lane && seen.policy == now.policy && tag_is_pinned)
            .then_some(entry)
    }

    /// P2 only-current-is-served: only a current entry enters L1.
    pub(crate) fn keep(&self, process: &mut Process, mut entry: Entry) {
        if self.is(Mutant::StampAfterRead) {
            entry.stamp = process.stamp();
        }
        entry.degraded |= process.degraded && !self.is(Mutant::TrackingAssumed);
        if entry.stamp == process.stamp() || self.is(Mutant::InsertOutdated) {
            process.l1 = Some(entry);
        }
    }

    /// Handles the lane's next message. With `overtaking`, that is the next reply, although pushes
    /// came before it.
    pub(crate) fn deliver(&self, state: &mut State, at: usize, overtaking: bool) {
        let inbox = &mut state.processes[at].inbox;
        let next = match overtaking {
            true => inbox
                .iter()
                .position(|message| matches!(message, Message::Reply(..))),
            false => (!inbox.is_empty()).then_some(0),
        };
        let Some(next) = next else { return };
        match inbox.remove(next) {
            Message::Reply(op, reply) => state.ops[op].reply = Some(reply),
            Message::Push(name) => self.hear(state, at, name),
        }
    }

    /// Handles a push, of the lane or the bus.
    pub(crate) fn hear(&self, state: &mut State, at: usize, name: Name) {
        let process = &mut state.processes[at];
        match name {
            Name::Value => self.invalidate_locally(process),
            Name::Tag => process.forget_tag(),
            Name::Policy => {
                process.policy_generation += 1;
                self.wake(state, at);
            }
            Name::Lease => self.wake(state, at),
        }
    }

    /// Wakes the operations of this process that wait for the lease.
    pub(crate) fn wake(&self, state: &mut State, at: usize) {
        for op in state
            .ops
            .iter_mut()
            .filter(|op| op.process == at && op.waiting)
        {
            op.woken = true;
        }
    }

    /// P7 wake-own-waiters: after a script of its own, the process wakes its waiters.
    pub(crate) fn wake_own(&self, state: &mut State, at: usize) {
        if !self.is(Mutant::OwnScriptsDoNotWake) {
            self.wake(state, at);
        }
    }

    /// Gives the connection up: commands under way get no reply any more.
    pub(crate) fn drop_connection(&self, state: &mut State, at: usize) {
        state.redis.tracks[at] = crate::state::Tracks::default();
        state.processes[at].inbox.clear();
        for op in state.ops.iter_mut().filter(|op| op.process == at) {
            if op.is_asking {
                op.reply.get_or_insert(Reply::Lost);
            }
            if op.waiting {
                op.woken = true; // the lane's loss wakes all waiters
            }
        }
    }
}
