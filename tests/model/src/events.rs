//! Events: faults of processes and of the server, and the chores of the processes.

use crate::{
    Mutant, Protocol,
    protocol::Action,
    state::{Kind, Link, Message, Name, State, Step, Tracks},
};

impl Protocol {
    pub(crate) fn lose(&self, state: &mut State, at: usize) {
        if self.is(Mutant::AdvanceBeforeWithdrawal) {
            self.advance_lane(state, at);
            state.processes[at].link = Link::Advanced;
        } else {
            state.processes[at].link = Link::Withdrawn;
            self.drop_connection(state, at);
        }
    }

    pub(crate) fn advance(&self, state: &mut State, at: usize) {
        if state.processes[at].link == Link::Advanced {
            state.processes[at].link = Link::Down;
            self.drop_connection(state, at);
        } else {
            state.processes[at].link = Link::Down;
            if !self.is(Mutant::LossAdvancesNothing) {
                self.advance_lane(state, at);
            }
        }
    }

    pub(crate) fn reconnect(&self, state: &mut State, at: usize) {
        state.processes[at].link = Link::Up;
        if !self.is(Mutant::PendingSentLater) {
            self.drain(state, at); // P11 unsent-goes-first
        }
        if !self.is(Mutant::LossAdvancesNothing) {
            self.advance_lane(state, at);
        }
    }

    pub(crate) fn drain(&self, state: &mut State, at: usize) {
        if let Some(version) = state.processes[at].pending.take() {
            let _done = self.invalidate(state, None, at);
            state.returned = state.returned.max(version);
        }
        if let Some(version) = state.processes[at].pending_tag.take() {
            let _done = self.invalidate_tag(state, at);
            state.returned = state.returned.max(version);
        }
    }

    pub(crate) fn expire(&self, state: &mut State) {
        if !self.is_orphan(state) {
            state.faults.expiry -= 1;
        }
        // P14 no-wait-for-expiry-push: the server tells nobody in time.
        state.redis.lease = None;
        state.expired = true;
    }

    pub(crate) fn cut(&self, state: &mut State, at: usize) {
        state.faults.loss -= 1;
        state.processes[at].link = Link::Cut;
        state.redis.tracks[at] = Tracks::default();
    }

    pub(crate) fn deafen(&self, state: &mut State, at: usize) {
        state.faults.deafness -= 1;
        state.processes[at].deaf = true;
        state.processes[at]
            .inbox
            .retain(|message| matches!(message, Message::Reply(..)));
    }

    pub(crate) fn unsubscribe(&self, state: &mut State, at: usize) {
        state.faults.unsubscription -= 1;
        state.processes[at].subscribed = false;
        state.processes[at].channel.clear();
    }

    pub(crate) fn subscribe(&self, state: &mut State, at: usize) {
        let process = &mut state.processes[at];
        (process.subscribed, process.degraded) = (true, false);
        if !self.is(Mutant::LostSubscriptionIgnored) {
            self.advance_lane(state, at);
        }
    }

    pub(crate) fn die(&self, state: &mut State, at: usize) {
        state.redis.tracks[at] = Tracks::default();
        let process = &mut state.processes[at];
        (process.alive, process.subscribed, process.l1) = (false, false, None);
        process.inbox.clear();
        process.channel.clear();
        for op in state
            .ops
            .iter_mut()
            .filter(|op| op.process == at && op.kind != Kind::Foreign)
        {
            if op.step != Step::Done {
                op.step = Step::Dead;
            }
        }
    }

    pub(crate) fn evict(&self, state: &mut State, name: Name, by: Option<usize>) {
        state.faults.eviction -= 1;
        match name {
            Name::Value => state.redis.value = None,
            Name::Lease => (state.redis.lease, state.expired) = (None, true),
            Name::Tag | Name::Row => state.redis.tag = None,
        }
        self.tell(state, name, by);
    }

    /// Lists the chores of the processes, which are no faults.
    pub(crate) fn chores(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, process) in state
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.alive)
        {
            if !process.inbox.is_empty() && process.link != Link::Down {
                actions.push(Action::Deliver(at));
                if self.is(Mutant::RepliesOvertakePushes) {
                    actions.push(Action::Overtake(at));
                }
            }
            if !process.channel.is_empty() {
                actions.push(Action::Hear(at));
            }
            match process.link {
                Link::Cut => actions.push(Action::Lose(at)),
                Link::Withdrawn | Link::Advanced => actions.push(Action::Advance(at)),
                Link::Down if !self.without_l2 => actions.push(Action::Reconnect(at)),
                Link::Up if process.pending.or(process.pending_tag).is_some() => {
                    actions.push(Action::Drain(at))
                }
                _ => {}
            }
            if process.deaf && !process.degraded && !self.is(Mutant::NoProbe) {
                actions.push(Action::Probe(at));
            }
            if self.bus && !process.subscribed {
                if !process.degraded && !self.is(Mutant::LostSubscriptionIgnored) {
                    actions.push(Action::Degrade(at));
                } else {
                    actions.push(Action::Subscribe(at));
                }
            }
        }
        if self.is_orphan(state) {
            actions.push(Action::Expire);
        }
    }

    pub(crate) fn mishaps(&self, state: &State, actions: &mut Vec<Action>) {
        let (faults, redis) = (&state.faults, &state.redis);
        if faults.expiry > 0 && redis.lease.is_some() && !self.is_orphan(state) {
            actions.push(Action::Expire);
        }
        if faults.eviction > 0 {
            let names = [
                (Name::Value, redis.value.is_some()),
                (Name::Lease, redis.lease.is_some()),
                (Name::Tag, redis.tag.is_some()),
            ];
            for (name, _) in names.into_iter().filter(|(_, there)| *there) {
                actions.push(Action::Evict(name));
                if self.is(Mutant::NoLoop) {
                    actions.extend((0..state.processes.len()).map(|at| Action::EvictFor(name, at)));
                }
            }
            if redis.order > 0 {
                actions.push(Action::EvictOrder);
            }
        }
        for (at, process) in state
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.alive)
        {
            if faults.death > 0 && self.immortal != Some(at) {
                actions.push(Action::Die(at));
            }
            if faults.loss > 0 && process.link == Link::Up {
                actions.extend([Action::Cut(at), Action::Lose(at)]);
            }
            if faults.forgetting > 0 && process.l1.is_some() {
                actions.push(Action::Forget(at));
            }
            if faults.deafness > 0 && !process.deaf {
                actions.push(Action::Deafen(at));
            }
            if faults.unsubscription > 0 && process.subscribed {
                actions.push(Action::Unsubscribe(at));
            }
        }
    }
}
