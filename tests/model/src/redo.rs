//! A server that comes back with the data of an earlier moment, and the log from which each process
//! invalidates again what the server forgot.

use crate::{
    Mutant, Protocol,
    protocol::Action,
    state::{Kind, Link, Name, Process, State, Step, Tracks},
};

impl Protocol {
    fn forgets(&self) -> bool {
        self.faults.restart > 0
    }

    /// The newest version that binds all processes. While a server that forgot is without one of
    /// its writers, each process is bound to its own alone.
    pub(crate) fn bound(&self, state: &State) -> u8 {
        let is_connected = |process: &Process| !process.alive || process.link == Link::Up;
        match state.forgot && !state.processes.iter().all(is_connected) {
            true => 0,
            false => state.returned,
        }
    }

    /// The name that an operation's next command replaces or invalidates.
    fn replaced(&self, state: &State, op: usize) -> Option<Name> {
        let op = &state.ops[op];
        match (op.step, op.kind) {
            (Step::Invalidate, Kind::InvalidateTag) => Some(Name::Tag),
            (Step::Begin | Step::Invalidate | Step::ClearLeases | Step::ClearValues, _) => {
                Some(Name::Value)
            }
            (Step::Commit, kind) if !kind.loads() || op.replaces.is_some() => Some(Name::Value),
            _ => None,
        }
    }

    /// Notes an operation before its command is sent. `false` if there is nothing to be noted, or
    /// it was done.
    pub(crate) fn note(&self, state: &mut State, op: usize) -> bool {
        if !self.forgets() || state.ops[op].noted.is_some() {
            return false;
        }
        let Some(name) = self.replaced(state, op) else {
            return false;
        };
        if !self.is(Mutant::NotedOnAnswer) {
            self.note_name(state, state.ops[op].process, name);
        }
        let log = &state.processes[state.ops[op].process].log;
        state.ops[op].noted = Some(log.closed + 1);
        true
    }

    pub(crate) fn note_name(&self, state: &mut State, at: usize, name: Name) {
        if !self.forgets() {
            return;
        }
        let log = &mut state.processes[at].log;
        let noted = match name {
            Name::Tag => &mut log.tag,
            _ => &mut log.key,
        };
        *noted = Some(log.closed + 1);
    }

    /// Takes note that the reply is there.
    pub(crate) fn note_answer(&self, state: &mut State, op: usize) {
        if state.ops[op].noted.take().is_some()
            && self.is(Mutant::NotedOnAnswer)
            && let Some(name) = self.replaced(state, op)
        {
            self.note_name(state, state.ops[op].process, name);
        }
    }

    /// The newest segment of which every operation was answered, once the current one is closed.
    fn answered(&self, state: &State, at: usize) -> u8 {
        let own = state.ops.iter().filter(|op| op.process == at);
        let oldest = own.filter_map(|op| op.noted).min();
        let closed = state.processes[at].log.closed + 1;
        match oldest.filter(|_| !self.is(Mutant::MarkPassesUnanswered)) {
            Some(oldest) => closed.min(oldest - 1),
            None => closed,
        }
    }

    /// Invalidates again, before anybody reads through the new connection, what a server forgot.
    pub(crate) fn redo(&self, state: &mut State, at: usize) {
        let (log, known) = (state.processes[at].log, state.redis.marks[at]);
        let is_other_run = log.run != state.redis.run && !self.is(Mutant::RunIgnored);
        let own = &mut state.processes[at].log;
        (own.run, own.written) = (state.redis.run, known);
        if !(is_other_run || known < log.written) || self.is(Mutant::NoRedo) {
            return;
        }
        let clears = known < log.dropped && !self.is(Mutant::ShortLogTrusted);
        let first = known + 1 + u8::from(self.is(Mutant::RedoStartsLate));
        let is_forgotten = |noted: Option<u8>| clears || noted.is_some_and(|noted| noted >= first);
        if is_forgotten(log.key) {
            if self.is(Mutant::RedoKeepsLeases) {
                let _done = self.clear_values(state, at);
            } else {
                let _done = self.invalidate(state, None, at);
            }
            self.note_redone(state, at, Name::Value);
        }
        if is_forgotten(log.tag) {
            let _done = self.invalidate_tag(state, at);
            self.note_redone(state, at, Name::Tag);
        }
    }

    fn note_redone(&self, state: &mut State, at: usize, name: Name) {
        let log = &mut state.processes[at].log;
        match name {
            _ if !self.is(Mutant::RedoneUnnoted) => self.note_name(state, at, name),
            Name::Tag => log.tag = None,
            _ => log.key = None,
        }
    }

    /// Lets the server forget, or a log take its next step. Other actions are none.
    pub(crate) fn lose_data(&self, state: &mut State, fault: Action) {
        match fault {
            Action::Snapshot => {
                let mut snapshot = state.redis.clone();
                snapshot.tracks.fill(Tracks::default());
                state.snapshot = Some(Box::new(snapshot));
            }
            Action::Restart => self.restart(state),
            Action::Mark(at) => {
                state.faults.mark -= 1;
                let answered = self.answered(state, at);
                let log = &mut state.processes[at].log;
                (log.closed, log.written) = (log.closed + 1, answered);
                state.redis.marks[at] = answered;
            }
            Action::Overflow(at) => {
                state.faults.overflow -= 1;
                let log = &mut state.processes[at].log;
                log.dropped = log.closed;
                log.key = log.key.filter(|noted| *noted > log.dropped);
                log.tag = log.tag.filter(|noted| *noted > log.dropped);
            }
            _ => {}
        }
    }

    fn restart(&self, state: &mut State) {
        let Some(snapshot) = &state.snapshot else {
            return;
        };
        state.faults.restart -= 1;
        let run = state.redis.run + 1;
        state.redis = (**snapshot).clone();
        state.redis.run = run;
        state.forgot = true;
        for process in &mut state.processes {
            if matches!(process.link, Link::Up | Link::Bumped) {
                process.link = Link::Cut;
            }
            process.subscribed = false;
        }
        // Readers that came before are bound as those are that come now.
        for op in &mut state.ops {
            op.floor = op.floor.map(|floor| floor.min(op.local_floor));
        }
    }

    /// Adds the steps by which data may be lost.
    pub(crate) fn data_losses(&self, state: &State, actions: &mut Vec<Action>) {
        if state.faults.restart > 0 {
            actions.push(match state.snapshot {
                None => Action::Snapshot,
                Some(_) => Action::Restart,
            });
        }
        for (at, process) in state.processes.iter().enumerate().filter(|(_, p)| p.alive) {
            let may_mark = state.faults.mark > 0 && process.link == Link::Up;
            if may_mark && self.answered(state, at) > process.log.written {
                actions.push(Action::Mark(at));
            }
            if state.faults.overflow > 0 && process.log.closed > process.log.dropped {
                actions.push(Action::Overflow(at));
            }
        }
    }
}
