//! Changes of the database: writes through and around the cache, programs that invalidate by hand,
//! foreign programs.

use crate::{
    Mutant, Protocol,
    state::{Entry, Kind, Link, Name, Outcome, Reply, State, Step, Stored},
};

impl Protocol {
    /// Takes a writer's step that sends no command. With `changes_db`, a failing writer changes the
    /// database all the same.
    pub(crate) fn write(&self, state: &mut State, op: usize, changes_db: bool) {
        let at = state.ops[op].process;
        match state.ops[op].step {
            Step::Start => self.start_write(state, op),
            Step::Sleep => {
                state.ops[op].woken = false;
                state.ops[op].step = Step::Begin;
            }
            Step::WriteDb => {
                let fails = matches!(state.ops[op].kind, Kind::WriteThrough(outcome) if outcome != Outcome::Good);
                if !fails || changes_db {
                    self.change_db(state, op);
                }
                state.ops[op].step = match state.ops[op].kind {
                    Kind::WriteThrough(Outcome::Good) => Step::Commit,
                    Kind::WriteThrough(_) if self.is(Mutant::FailedWriterKeeps) => {
                        if state.processes[at].link == Link::Up {
                            self.release(state, op, at);
                        }
                        self.wake_own(state, at);
                        Step::Done
                    }
                    _ => Step::Invalidate,
                };
            }
            Step::WriteDbWithoutL2 => {
                self.change_db(state, op);
                state.ops[op].step = Step::CommitWithoutL2;
            }
            Step::CommitWithoutL2 => {
                if !self.without_l2 {
                    self.invalidate_or_remember(state, op);
                }
                self.keep_written(state, op, !self.without_l2);
                self.returns(state, op, self.without_l2);
            }
            Step::Set => {
                let version = state.ops[op].value.map_or(0, |value| value.version);
                self.set(state, version);
                state.returned = state.returned.max(version);
                state.ops[op].step = Step::Done;
            }
            Step::WriteLate => {
                self.change_db(state, op);
                state.ops[op].step = Step::Done;
            }
            _ => {}
        }
    }

    fn start_write(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        if self.is(Mutant::BumpBeforeScript) {
            self.outdate_locally(state, op);
        }
        state.ops[op].step = match state.ops[op].kind {
            Kind::WriteThrough(_) | Kind::WriteAround if self.without_l2 => {
                self.invalidate_locally(&mut state.processes[at]);
                state.ops[op].stamp = state.processes[at].stamp();
                Step::WriteDbWithoutL2
            }
            Kind::WriteThrough(_) | Kind::WriteAround => Step::Begin,
            kind => {
                self.change_db(state, op);
                match kind {
                    Kind::Foreign => Step::Set,
                    Kind::Clear => {
                        state.processes[at].policy_generation += 1;
                        if self.is(Mutant::ClearInOnePass) {
                            Step::ClearValues
                        } else {
                            Step::ClearLeases
                        }
                    }
                    _ => Step::Invalidate,
                }
            }
        };
    }

    fn change_db(&self, state: &mut State, op: usize) {
        state.db += 1;
        state.ops[op].value = Some(Stored {
            version: state.db,
            epoch: None,
        });
    }

    /// Sends a writer's command. The server runs it in the same step.
    pub(crate) fn ask_write(&self, state: &mut State, op: usize) -> Reply {
        let at = state.ops[op].process;
        match (state.ops[op].step, state.ops[op].kind) {
            (Step::Begin, _) => {
                // P8 register-then-claim
                state.ops[op].waiting = !self.is(Mutant::RegisterAfterClaim);
                self.begin_write(state, op, at)
            }
            (Step::Commit, _) => self.commit(state, op, at),
            (Step::Confirm, _) => self.get(state, at),
            (Step::ClearLeases, _) => {
                self.invalidate_lease(state, None, at);
                Reply::Done
            }
            (Step::ClearValues, _) => self.clear_values(state, at),
            (_, Kind::InvalidateTag) => self.invalidate_tag(state, at),
            (_, Kind::Invalidate) => self.invalidate(state, None, at),
            _ => self.invalidate(state, Some(op), at),
        }
    }

    fn take_lease(&self, state: &mut State, op: usize, reply: Reply) {
        let (at, asked) = (state.ops[op].process, state.ops[op].stamp);
        state.ops[op].waiting = false;
        // P9 reply-invalidates-again: the script may have run, whatever the reply.
        if !self.is(Mutant::BumpBeforeScript) {
            self.invalidate_locally(&mut state.processes[at]);
        }
        state.ops[op].stamp = state.processes[at].stamp();
        state.ops[op].step = match reply {
            Reply::Leased => Step::WriteDb,
            Reply::Busy(_) => {
                state.ops[op].waiting = true;
                Step::Sleep
            }
            _ => {
                self.invalidate_or_remember(state, op);
                self.renew_without_l2(state, op, asked);
                Step::WriteDbWithoutL2
            }
        };
    }

    /// Takes the reply.
    pub(crate) fn take_write(&self, state: &mut State, op: usize, reply: Reply) {
        let at = state.ops[op].process;
        match (state.ops[op].step, reply) {
            (Step::Begin, reply) => self.take_lease(state, op, reply),
            (Step::Commit, Reply::Committed(true)) => {
                self.wake_own(state, at);
                if !self.is(Mutant::NoCompareAndBump) {
                    self.invalidate_locally(&mut state.processes[at]); // P15 writer-ends-by-compare
                }
                state.ops[op].stamp = state.processes[at].stamp(); // P1 stamp-before-read
                state.ops[op].step = Step::Confirm;
                if self.is(Mutant::KeepUnread) {
                    self.keep_confirmed(state, op);
                }
            }
            (Step::Confirm, Reply::Value(found)) if found == state.ops[op].value => {
                self.keep_confirmed(state, op)
            }
            (Step::Confirm, _) => self.returns(state, op, true),
            (Step::Commit, Reply::Committed(false)) if self.is(Mutant::RefusedWriterKeeps) => {
                self.wake_own(state, at);
                self.invalidate_locally(&mut state.processes[at]);
                self.returns(state, op, true);
            }
            (Step::Commit, _) => {
                self.wake_own(state, at);
                state.ops[op].step = Step::Invalidate; // P18 failed-write-invalidates
            }
            // The invalidation is sent again, or remembered if the lane is down.
            (Step::Invalidate, Reply::Lost) => {
                if !state.processes[at].can_ask() {
                    self.invalidate_or_remember(state, op);
                    self.outdate_locally(state, op);
                    self.returns(state, op, false);
                }
            }
            (Step::Invalidate, _) => {
                self.wake_own(state, at);
                if !self.is(Mutant::BumpBeforeScript) {
                    self.outdate_locally(state, op); // P9 reply-invalidates-again
                }
                self.returns(state, op, true);
            }
            (Step::ClearLeases, Reply::Done) => state.ops[op].step = Step::ClearValues,
            (Step::ClearValues, Reply::Done) => {
                self.wake(state, at);
                if !self.is(Mutant::ClearBumpsOnce) {
                    state.processes[at].policy_generation += 1; // P9 reply-invalidates-again
                }
                self.returns(state, op, true);
            }
            // The clear has failed, and its caller gets the error.
            (_, _) => state.ops[op].step = Step::Done,
        }
    }

    /// Outdates in its own process the entries that this operation has changed.
    fn outdate_locally(&self, state: &mut State, op: usize) {
        let process = &mut state.processes[state.ops[op].process];
        match state.ops[op].kind {
            Kind::InvalidateTag => {
                process.forget_tag();
                process.own_tag += 1;
            }
            _ => self.invalidate_locally(process),
        }
    }

    /// P11 unsent-goes-first: sends the invalidation of the key or the tag, or remembers it while
    /// the lane is down.
    fn invalidate_or_remember(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        let version = state.ops[op].value.map_or(0, |value| value.version);
        let is_tag = state.ops[op].kind == Kind::InvalidateTag;
        if state.processes[at].link == Link::Up {
            let name = if is_tag { Name::Tag } else { Name::Value };
            self.note_name(state, at, name);
            let _done = if is_tag {
                self.invalidate_tag(state, at)
            } else {
                self.invalidate(state, Some(op), at)
            };
            self.wake_own(state, at);
            state.returned = state.returned.max(version);
        } else if !self.is(Mutant::UnsentForgotten) {
            let process = &mut state.processes[at];
            let unsent = if is_tag {
                &mut process.unsent_tag
            } else {
                &mut process.unsent
            };
            *unsent = Some(unsent.map_or(version, |before| before.max(version)));
        }
    }

    /// P15 writer-ends-by-compare: the value enters L1 only if no invalidation came between, and
    /// values that were read meanwhile no longer can.
    fn keep_written(&self, state: &mut State, op: usize, without_l2: bool) {
        let (Some(value), at) = (state.ops[op].value, state.ops[op].process) else {
            return;
        };
        let (mut stamp, process) = (state.ops[op].stamp, &mut state.processes[at]);
        let is_current = stamp == process.stamp();
        if !self.is(Mutant::NoCompareAndBump) {
            self.invalidate_locally(process);
            stamp.key += 1;
        }
        if is_current && state.ops[op].kind != Kind::WriteAround {
            self.keep(
                process,
                Entry {
                    version: value.version,
                    stamp,
                    tag: None,
                    own_tag: None,
                    degraded: false,
                    without_l2,
                },
            );
        }
    }

    /// P4 l1-read-from-l2: the value in L1 is the one that L2 has returned.
    fn keep_confirmed(&self, state: &mut State, op: usize) {
        let (at, seen) = (state.ops[op].process, &state.ops[op]);
        let Some(Stored { version, .. }) = seen.value else {
            return;
        };
        let entry = Entry {
            version,
            stamp: seen.stamp,
            tag: None,
            own_tag: None,
            degraded: false,
            without_l2: false,
        };
        self.keep(&mut state.processes[at], entry);
        self.returns(state, op, true);
    }

    /// Returns to the caller. A failed call binds no process, and one whose invalidation is unsent
    /// binds only its own.
    fn returns(&self, state: &mut State, op: usize, binds_all: bool) {
        let at = state.ops[op].process;
        state.ops[op].waiting = false;
        let outcome = match state.ops[op].kind {
            Kind::WriteThrough(outcome) => outcome,
            _ => Outcome::Good,
        };
        state.ops[op].step = if outcome == Outcome::FailsAndWritesLater {
            Step::WriteLate
        } else {
            Step::Done
        };
        if outcome == Outcome::Good
            && let Some(value) = state.ops[op].value
        {
            state.processes[at].returned = state.processes[at].returned.max(value.version);
            if binds_all {
                state.returned = state.returned.max(value.version);
            }
        }
    }
}
