//! The writers of the database: writes through and around the cache, programs that invalidate by
//! hand, foreign programs.

use crate::{
    Mutant, Protocol,
    state::{Entry, Kind, Link, Outcome, Reply, State, Step, Stored},
};

impl Protocol {
    /// Takes a step of a writer that needs no answer. `unlucky`: a failing writer's database has
    /// changed.
    pub(crate) fn write(&self, state: &mut State, op: usize, unlucky: bool) {
        let at = state.ops[op].process;
        match state.ops[op].step {
            Step::Start => self.start_write(state, op),
            Step::Sleep => {
                state.ops[op].woken = false;
                state.ops[op].step = Step::Begin;
            }
            Step::WriteDb => {
                let fails = matches!(state.ops[op].kind, Kind::WriteThrough(outcome) if outcome != Outcome::Good);
                if !fails || unlucky {
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
                    _ => Step::Withdraw,
                };
            }
            Step::WriteDbAlone => {
                self.change_db(state, op);
                state.ops[op].step = Step::CommitAlone;
            }
            Step::CommitAlone => {
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
        if self.is(Mutant::AdvanceBeforeScript) {
            self.forget_locally(state, op);
        }
        state.ops[op].step = match state.ops[op].kind {
            Kind::WriteThrough(_) | Kind::WriteAround if self.without_l2 => {
                self.invalidate_locally(&mut state.processes[at]);
                state.ops[op].stamp = state.processes[at].stamp();
                Step::WriteDbAlone
            }
            Kind::WriteThrough(_) | Kind::WriteAround => Step::Begin,
            kind => {
                self.change_db(state, op);
                match kind {
                    Kind::Foreign => Step::Set,
                    Kind::Clear => {
                        state.processes[at].row_cell += 1;
                        if self.is(Mutant::ClearInOnePass) {
                            Step::ClearValues
                        } else {
                            Step::ClearLeases
                        }
                    }
                    _ => Step::Withdraw,
                }
            }
        };
    }

    fn change_db(&self, state: &mut State, op: usize) {
        state.db += 1;
        state.ops[op].value = Some(Stored {
            version: state.db,
            order: None,
        });
    }

    /// Sends what a writer asks. The server does it in the same step.
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

    /// Takes the answer.
    pub(crate) fn take_write(&self, state: &mut State, op: usize, reply: Reply) {
        let at = state.ops[op].process;
        match (state.ops[op].step, reply) {
            (Step::Begin, reply) => self.take_begun(state, op, reply),
            (Step::Commit, Reply::Committed(true)) => {
                self.wake_own(state, at);
                if !self.is(Mutant::NoCompareAndAdvance) {
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
                state.ops[op].step = Step::Withdraw; // P18 failed-write-invalidates
            }
            // Asked again, or remembered if the lane is down.
            (Step::Withdraw, Reply::Lost) => {
                if !state.processes[at].can_ask() {
                    self.invalidate_or_remember(state, op);
                    self.forget_locally(state, op);
                    self.returns(state, op, false);
                }
            }
            (Step::Withdraw, _) => {
                self.wake_own(state, at);
                if !self.is(Mutant::AdvanceBeforeScript) {
                    self.forget_locally(state, op); // P9 reply-invalidates-again
                }
                self.returns(state, op, true);
            }
            (Step::ClearLeases, Reply::Done) => state.ops[op].step = Step::ClearValues,
            (Step::ClearValues, Reply::Done) => {
                self.wake(state, at);
                if !self.is(Mutant::ClearAdvancesOnce) {
                    state.processes[at].row_cell += 1; // P9 reply-invalidates-again
                }
                self.returns(state, op, true);
            }
            // The clear has failed, and says so.
            (_, _) => state.ops[op].step = Step::Done,
        }
    }

    fn take_begun(&self, state: &mut State, op: usize, reply: Reply) {
        let at = state.ops[op].process;
        state.ops[op].waiting = false;
        // P9 reply-invalidates-again: the script may have run, whatever the reply.
        if !self.is(Mutant::AdvanceBeforeScript) {
            self.invalidate_locally(&mut state.processes[at]);
        }
        state.ops[op].stamp = state.processes[at].stamp();
        state.ops[op].step = match reply {
            Reply::Leased => Step::WriteDb,
            Reply::Busy => {
                state.ops[op].waiting = true;
                Step::Sleep
            }
            _ => {
                self.invalidate_or_remember(state, op);
                Step::WriteDbAlone
            }
        };
    }

    /// Makes out of date in the operation's own process what it invalidates.
    fn forget_locally(&self, state: &mut State, op: usize) {
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
            let _done = if is_tag {
                self.invalidate_tag(state, at)
            } else {
                self.invalidate(state, Some(op), at)
            };
            self.wake_own(state, at);
            state.returned = state.returned.max(version);
        } else if !self.is(Mutant::PendingForgotten) {
            let process = &mut state.processes[at];
            let pending = if is_tag {
                &mut process.pending_tag
            } else {
                &mut process.pending
            };
            *pending = Some(pending.map_or(version, |before| before.max(version)));
        }
    }

    /// P15 writer-ends-by-compare: the value enters L1 only if nothing came between, and what was
    /// read meanwhile no longer can.
    fn keep_written(&self, state: &mut State, op: usize, degraded: bool) {
        let (Some(value), at) = (state.ops[op].value, state.ops[op].process) else {
            return;
        };
        let (mut stamp, process) = (state.ops[op].stamp, &mut state.processes[at]);
        let is_current = stamp == process.stamp();
        if !self.is(Mutant::NoCompareAndAdvance) {
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
                    degraded,
                },
            );
        }
    }

    /// P4 l1-read-from-l2: the value is what L2 has been asked for.
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
        };
        self.keep(&mut state.processes[at], entry);
        self.returns(state, op, true);
    }

    /// The call returns. A failed one binds nobody, and one that could not be sent binds its own
    /// process.
    fn returns(&self, state: &mut State, op: usize, everybody: bool) {
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
            if everybody {
                state.returned = state.returned.max(value.version);
            }
        }
    }
}
