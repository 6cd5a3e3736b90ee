//! Faults of processes and of the server, and the chores of a process.

use crate::{
    Mutant, Protocol,
    protocol::Action,
    state::{Kind, Link, Message, Name, State, Step, Tracks},
};

impl Protocol {
    pub(crate) fn drop_session(&self, state: &mut State, at: usize) {
        if self.is(Mutant::BumpBeforeWithdrawal) {
            self.bump_lane(state, at);
            state.processes[at].link = Link::Bumped;
        } else {
            state.processes[at].link = Link::Withdrawn;
            self.drop_connection(state, at);
        }
    }

    pub(crate) fn bump_after_loss(&self, state: &mut State, at: usize) {
        if state.processes[at].link == Link::Bumped {
            state.processes[at].link = Link::Down;
            self.drop_connection(state, at);
        } else {
            state.processes[at].link = Link::Down;
            if !self.is(Mutant::LossBumpsNothing) {
                self.bump_lane(state, at);
            }
        }
    }

    /// P10 loss-told-before-successor: the generations are bumped before the connection is handed
    /// out.
    pub(crate) fn reconnect(&self, state: &mut State, at: usize) {
        state.processes[at].link = Link::Ready;
        if !self.is(Mutant::LossBumpsNothing) {
            self.bump_lane(state, at);
        }
    }

    pub(crate) fn install(&self, state: &mut State, at: usize) {
        state.processes[at].link = Link::Up;
        if !self.is(Mutant::RedoAfterReading) {
            self.redo(state, at);
        }
        if !self.is(Mutant::UnsentSentLater) {
            self.drain(state, at); // P11 unsent-goes-first
        }
        // P31 kept-only-while-away: what was kept since the last bump is not tracked.
        if !self.is(Mutant::LossBumpsNothing) && !self.is(Mutant::BumpBeforeInstallOnly) {
            self.bump_lane(state, at);
        }
    }

    pub(crate) fn drain(&self, state: &mut State, at: usize) {
        if let Some(version) = state.processes[at].unsent.take() {
            let _done = self.invalidate(state, None, at);
            self.note_name(state, at, Name::Value);
            state.returned = state.returned.max(version);
        }
        if let Some(version) = state.processes[at].unsent_tag.take() {
            let _done = self.invalidate_tag(state, at);
            self.note_name(state, at, Name::Tag);
            state.returned = state.returned.max(version);
        }
    }

    pub(crate) fn subscribe(&self, state: &mut State, at: usize) {
        let process = &mut state.processes[at];
        (process.subscribed, process.degraded) = (true, false);
        if !self.is(Mutant::LostSubscriptionIgnored) {
            self.bump_lane(state, at);
        }
    }

    /// Lets a fault happen. Other actions are none, and change nothing.
    pub(crate) fn happen(&self, state: &mut State, fault: Action) {
        match fault {
            Action::Expire => {
                if !self.is_orphan(state) {
                    state.faults.expiry -= 1;
                }
                // P14 no-wait-for-expiry-push: no push comes in time.
                state.redis.lease = None;
                state.expired = true;
            }
            Action::Die(at) => {
                state.faults.death -= 1;
                self.die(state, at);
            }
            Action::Cut(at) => {
                state.faults.loss -= 1;
                state.processes[at].link = Link::Cut;
                state.redis.tracks[at] = Tracks::default();
            }
            Action::Evict(name) => self.evict(state, name, None),
            Action::EvictFor(name, at) => self.evict(state, name, Some(at)),
            Action::EvictEpoch => {
                state.faults.eviction -= 1;
                state.redis.epoch = 0;
            }
            Action::Forget(at) => {
                state.faults.forgetting -= 1;
                state.processes[at].l1 = None;
            }
            Action::Deafen(at) => {
                state.faults.deafness -= 1;
                state.processes[at].deaf = true;
                state.processes[at]
                    .inbox
                    .retain(|message| matches!(message, Message::Reply(..)));
            }
            Action::Unsubscribe(at) => {
                state.faults.unsubscription -= 1;
                state.processes[at].subscribed = false;
                state.processes[at].channel.clear();
            }
            fault => self.lose_data(state, fault),
        }
    }

    fn die(&self, state: &mut State, at: usize) {
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

    fn evict(&self, state: &mut State, name: Name, by: Option<usize>) {
        state.faults.eviction -= 1;
        match name {
            Name::Value => state.redis.value = None,
            Name::Lease => (state.redis.lease, state.expired) = (None, true),
            Name::Tag | Name::Policy => state.redis.tag = None,
        }
        self.tell(state, name, by);
    }

    /// Adds the steps that processes take without a caller or a fault.
    pub(crate) fn chores(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, process) in state
            .processes
            .iter()
            .enumerate()
            .filter(|(_, process)| process.alive)
        {
            if !process.inbox.is_empty() && !matches!(process.link, Link::Down | Link::Ready) {
                actions.push(Action::Deliver(at));
                if self.is(Mutant::RepliesOvertakePushes) {
                    actions.push(Action::Overtake(at));
                }
            }
            if !process.channel.is_empty() {
                actions.push(Action::Hear(at));
            }
            match process.link {
                Link::Cut => actions.push(Action::DropSession(at)),
                Link::Withdrawn | Link::Bumped => actions.push(Action::BumpLane(at)),
                Link::Down if !self.without_l2 => actions.push(Action::Reconnect(at)),
                Link::Ready => actions.push(Action::Install(at)),
                Link::Up
                    if self.is(Mutant::RedoAfterReading) && process.log.run != state.redis.run =>
                {
                    actions.push(Action::Redo(at))
                }
                Link::Up if process.unsent.or(process.unsent_tag).is_some() => {
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
        match state.redis.lease {
            Some(_) if self.is_orphan(state) => actions.push(Action::Expire),
            // Only where a renewal makes a difference.
            Some(lease) if lease.new_to != self.new_to_after_renewal(state) => {
                actions.push(Action::Renew)
            }
            _ => {}
        }
    }

    /// Adds the faults that may happen now.
    pub(crate) fn fault_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (faults, redis) = (&state.faults, &state.redis);
        self.data_losses(state, actions);
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
            if redis.epoch > 0 {
                actions.push(Action::EvictEpoch);
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
                actions.extend([Action::Cut(at), Action::DropSession(at)]);
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
