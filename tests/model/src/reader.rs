//! `get_or_load`: the flight of a key, as one caller leads it and others join it.

use crate::{
    Mutant, Protocol,
    state::{Entry, Kind, Link, Reply, State, Step, Stored},
};

/// Which of a flight's marks is when L2 was asked, when the loader was, and when the value was to
/// be stored.
const GET: usize = 0;
const LOAD: usize = 1;
const STORE: usize = 2;

impl Protocol {
    /// Takes a step of a reader that needs no answer.
    pub(crate) fn read(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        match state.ops[op].step {
            Step::Start => self.start_read(state, op),
            Step::Sleep => {
                // P1 stamp-before-read: after a wait, anew.
                state.ops[op].stamp = state.processes[at].stamp();
                state.ops[op].woken = false;
                state.ops[op].step = Step::Claim;
            }
            Step::Order => {
                let is_connected = state.processes[at].link == Link::Up;
                state.ops[op].order = if is_connected { self.order(state) } else { 0 };
                state.ops[op].step = if self.is(Mutant::OrderAfterLoad) {
                    self.hold_or_commit(state, op)
                } else {
                    Step::Load
                };
            }
            Step::Load => {
                self.ask_for(state, op, LOAD);
                state.ops[op].value = Some(Stored {
                    version: state.db,
                    order: None,
                });
                state.ops[op].step = Step::Loaded;
            }
            Step::Loaded if state.ops[op].kind == (Kind::Reload { fails: true }) => {
                if state.processes[at].link == Link::Up {
                    self.release(state, op, at);
                }
                self.wake_own(state, at);
                self.serve_stale(state, op);
                self.fail(state, op);
            }
            Step::Loaded => {
                self.ask_for(state, op, STORE);
                let is_late = self.is(Mutant::OrderAfterLoad) && is_tagged(state, op);
                state.ops[op].step = if is_late {
                    Step::Order
                } else {
                    self.hold_or_commit(state, op)
                };
            }
            Step::LoadAlone => {
                // P1 stamp-before-read: the loss has made the first stamp out of date.
                state.ops[op].stamp = state.processes[at].stamp();
                state.ops[op].tag_seen = state.processes[at].own_tag;
                self.ask_for(state, op, LOAD);
                state.ops[op].value = Some(Stored {
                    version: state.db,
                    order: None,
                });
                state.ops[op].step = Step::LoadedAlone;
            }
            Step::LoadedAlone => self.end_load_alone(state, op),
            _ => {}
        }
    }

    /// Keeps and serves the value of a load without L2.
    fn end_load_alone(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        self.ask_for(state, op, STORE);
        let Some(value) = state.ops[op].value else {
            return;
        };
        let (stamp, seen) = (state.ops[op].stamp, state.ops[op].tag_seen);
        let own_tag = is_tagged(state, op).then_some(seen);
        let degraded = !self.without_l2;
        let entry = Entry {
            version: value.version,
            stamp,
            tag: None,
            own_tag,
            degraded,
        };
        self.keep(&mut state.processes[at], entry);
        let process = &state.processes[at];
        let is_held = own_tag.is_none_or(|seen| seen == process.own_tag);
        let is_current = stamp == process.stamp() && is_held;
        self.finish(
            state,
            op,
            value.version,
            if is_current { STORE } else { LOAD },
        );
    }

    fn start_read(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        let floor = state.returned.max(state.processes[at].returned);
        if state.ops[op].floor.is_none() {
            state.ops[op].floor = Some(floor);
            state.ops[op].floor_alone = state.processes[at].returned;
        }
        state.ops[op].joined = None;
        let is_reload = matches!(state.ops[op].kind, Kind::Reload { .. });
        if self.served_by_l1(&state.processes[at]).is_some() && !is_reload {
            // What L1 may hold is a property of its own.
            state.ops[op].step = Step::Done;
            return;
        }
        let now = state.processes[at].stamp();
        let flight = state.ops.iter().position(|other| {
            let is_led = other.kind.is_read() && other.process == at && other.joined.is_none();
            is_led
                && other.stamp == now
                && !matches!(other.step, Step::Start | Step::Done | Step::Dead)
        });
        if let Some(flight) = flight.filter(|_| !is_reload) {
            state.ops[op].joined = Some((flight, state.ops[flight].asked));
            state.ops[op].step = Step::Joined;
            return;
        }
        state.ops[op].stamp = now;
        state.ops[op].asked = 0;
        state.ops[op].replaces = None;
        state.ops[op].step = if self.without_l2 {
            Step::LoadAlone
        } else {
            Step::Get
        };
    }

    fn ask_for(&self, state: &mut State, op: usize, what: usize) {
        state.ops[op].asked += 1;
        state.ops[op].marks[what] = state.ops[op].asked;
    }

    fn hold_or_commit(&self, state: &mut State, op: usize) -> Step {
        if !is_tagged(state, op) {
            return Step::Commit;
        }
        let order = state.ops[op].order;
        if let Some(value) = &mut state.ops[op].value {
            value.order = Some(order);
        }
        if self.is(Mutant::CommitWithoutHolding) {
            Step::Commit
        } else {
            Step::Hold
        }
    }

    /// Sends what a reader asks. The server does it in the same step.
    pub(crate) fn ask_read(&self, state: &mut State, op: usize) -> Reply {
        let at = state.ops[op].process;
        state.ops[op].tag_seen = state.processes[at].tag.generation;
        match state.ops[op].step {
            Step::Get => {
                self.ask_for(state, op, GET);
                self.get(state, at)
            }
            Step::Claim => {
                self.ask_for(state, op, GET);
                // P8 register-then-claim
                state.ops[op].waiting = !self.is(Mutant::RegisterAfterClaim);
                self.claim(state, op, at)
            }
            Step::Confirm => self.get(state, at),
            Step::AskTag | Step::ConfirmTag => self.read_tag(state, at),
            Step::Hold if self.is(Mutant::HoldInTwoSteps) => {
                Reply::Committed(self.order(state) == state.ops[op].order)
            }
            Step::Hold => self.hold_tag(state, state.ops[op].order, at),
            Step::HoldLate => {
                self.create_tag(state, state.ops[op].order, at);
                self.read_tag(state, at)
            }
            _ => self.commit(state, op, at),
        }
    }

    /// Takes the answer.
    pub(crate) fn take_read(&self, state: &mut State, op: usize, reply: Reply) {
        match state.ops[op].step {
            Step::Get | Step::Claim | Step::AskTag => self.take_found(state, op, reply),
            Step::Hold | Step::HoldLate | Step::Commit => self.take_stored(state, op, reply),
            Step::Confirm | Step::ConfirmTag => self.take_confirmed(state, op, reply),
            _ => {}
        }
    }

    /// Takes the answer of L2 to a read or a claim, or about the tag of its value.
    fn take_found(&self, state: &mut State, op: usize, reply: Reply) {
        match (state.ops[op].step, reply) {
            (Step::Get | Step::Claim | Step::AskTag, Reply::Lost) => {
                state.ops[op].waiting = false;
                state.ops[op].step = Step::LoadAlone;
            }
            (Step::Get, Reply::Value(None)) => state.ops[op].step = Step::Claim,
            (Step::Get, Reply::Value(Some(found)))
                if matches!(state.ops[op].kind, Kind::Reload { .. }) && found.order.is_none() =>
            {
                self.keep_found(state, op, found, 0);
                state.ops[op].stale = Some((found.version, state.ops[op].stamp));
                self.replace(state, op, found);
            }
            (Step::Get | Step::Claim, Reply::Value(Some(found))) => {
                state.ops[op].waiting = false;
                self.judge(state, op, found);
            }
            (Step::Claim, Reply::Leased) => {
                state.ops[op].waiting = false;
                let is_early = is_tagged(state, op) && !self.is(Mutant::OrderAfterLoad);
                state.ops[op].step = if is_early { Step::Order } else { Step::Load };
            }
            (Step::Claim, _) => {
                state.ops[op].waiting = true;
                state.ops[op].step = Step::Sleep;
                self.serve_stale(state, op);
            }
            (Step::AskTag, Reply::Tag(held)) => {
                let held = held.or(self.is(Mutant::MissingTagIsHeld).then_some(0));
                self.learn(state, op, held);
                let Some(found) = state.ops[op].value else {
                    return;
                };
                if held.is_some_and(|held| Some(held) <= found.order) {
                    self.accept(state, op, found, state.ops[op].tag_seen);
                } else {
                    self.replace(state, op, found);
                }
            }
            _ => {}
        }
    }

    /// Takes the answer about the tag of a loaded value, or to its commit.
    fn take_stored(&self, state: &mut State, op: usize, reply: Reply) {
        let at = state.ops[op].process;
        let version = state.ops[op].value.map_or(0, |value| value.version);
        match (state.ops[op].step, reply) {
            (Step::Hold, Reply::Committed(true)) => state.ops[op].step = Step::HoldLate,
            (Step::Hold | Step::HoldLate, Reply::Tag(Some(held)))
                if held <= state.ops[op].order =>
            {
                self.learn(state, op, Some(held));
                if self.is(Mutant::HeldForAll) {
                    self.ask_for(state, op, STORE);
                }
                state.ops[op].step = Step::Commit;
            }
            (Step::Hold | Step::HoldLate, _) => {
                if state.processes[at].link == Link::Up {
                    self.release(state, op, at);
                }
                self.wake_own(state, at);
                self.refuse(state, op, version);
            }
            (Step::Commit, Reply::Committed(true)) => {
                self.wake_own(state, at);
                if self.is(Mutant::CommittedForAll) {
                    self.ask_for(state, op, STORE);
                }
                state.ops[op].stamp = state.processes[at].stamp(); // P1 stamp-before-read
                state.ops[op].step = Step::Confirm;
                if self.is(Mutant::KeepUnread) {
                    self.keep_committed(state, op);
                }
            }
            (Step::Commit, _) => {
                self.wake_own(state, at);
                self.refuse(state, op, version);
            }
            _ => {}
        }
    }

    /// Takes the value that L2 has after the commit, or the answer about its tag.
    fn take_confirmed(&self, state: &mut State, op: usize, reply: Reply) {
        let at = state.ops[op].process;
        let version = state.ops[op].value.map_or(0, |value| value.version);
        match (state.ops[op].step, reply) {
            // P4 l1-read-from-l2
            (Step::Confirm, Reply::Value(found)) if found == state.ops[op].value => {
                let tag = state.processes[at].tag;
                let is_in_order = !self.bus || self.is(Mutant::BusIsTrustedWithTags);
                match (version_order(state, op), tag.known.filter(|_| is_in_order)) {
                    (Some(_), None) => state.ops[op].step = Step::ConfirmTag,
                    (Some(order), Some(held)) if held > order => {
                        self.finish(state, op, version, STORE)
                    }
                    _ => {
                        state.ops[op].tag_seen = tag.generation;
                        self.keep_committed(state, op);
                    }
                }
            }
            (Step::ConfirmTag, Reply::Tag(held)) => {
                self.learn(state, op, held);
                if held.is_some_and(|held| Some(held) <= version_order(state, op)) {
                    self.keep_committed(state, op);
                } else {
                    self.finish(state, op, version, STORE);
                }
            }
            // It is stored, and served, but not kept here.
            _ => self.finish(state, op, version, STORE),
        }
    }

    fn keep_committed(&self, state: &mut State, op: usize) {
        let (at, seen) = (state.ops[op].process, &state.ops[op]);
        let Some(value) = seen.value else { return };
        let tag = value.order.map(|order| (order, seen.tag_seen));
        let entry = Entry {
            version: value.version,
            stamp: seen.stamp,
            tag,
            own_tag: None,
            degraded: false,
        };
        self.keep(&mut state.processes[at], entry);
        self.finish(state, op, value.version, STORE);
    }

    /// P16 only-for-earlier-callers: the value is only for those who came before the load.
    fn refuse(&self, state: &mut State, op: usize, version: u8) {
        if self.is(Mutant::RefusedForAll) {
            self.ask_for(state, op, LOAD);
        }
        self.finish(state, op, version, LOAD);
    }

    /// P21 tags-pinned-in-time, P24 tags-known-by-lane: what L2 has may be served if its tag is
    /// held.
    fn judge(&self, state: &mut State, op: usize, found: Stored) {
        let tag = state.processes[state.ops[op].process].tag;
        let is_in_order = !self.bus || self.is(Mutant::BusIsTrustedWithTags);
        match (found.order, tag.known.filter(|_| is_in_order)) {
            _ if self.is(Mutant::TagIgnored) => self.accept(state, op, found, tag.generation),
            (None, _) => self.accept(state, op, found, tag.generation),
            (Some(order), Some(held)) if held <= order => {
                self.accept(state, op, found, tag.generation)
            }
            (Some(_), Some(_)) => self.replace(state, op, found),
            (Some(_), None) => {
                state.ops[op].value = Some(found);
                state.ops[op].step = Step::AskTag;
            }
        }
    }

    /// P3 clean-lease-commits: a load may replace exactly this.
    fn replace(&self, state: &mut State, op: usize, found: Stored) {
        state.ops[op].replaces = Some(found);
        state.ops[op].step = Step::Claim;
    }

    fn learn(&self, state: &mut State, op: usize, held: Option<u8>) {
        let seen = state.ops[op].tag_seen;
        let tag = &mut state.processes[state.ops[op].process].tag;
        if tag.generation == seen || self.is(Mutant::LearnForgotten) {
            tag.known = held.or(tag.known);
        }
    }

    fn keep_found(&self, state: &mut State, op: usize, found: Stored, generation: u8) {
        let at = state.ops[op].process;
        let tag = found.order.map(|order| (order, generation));
        let entry = Entry {
            version: found.version,
            stamp: state.ops[op].stamp,
            tag,
            own_tag: None,
            degraded: false,
        };
        self.keep(&mut state.processes[at], entry);
    }

    /// P28 stale-only-while-current: serves the stale value in place of a load, if there is one and
    /// nothing is known to have changed it.
    fn serve_stale(&self, state: &mut State, op: usize) {
        let Some((version, stamp)) = state.ops[op].stale else {
            return;
        };
        let at = state.ops[op].process;
        if stamp != state.processes[at].stamp() && !self.is(Mutant::StaleUnchecked) {
            return;
        }
        let is_told = version < state.processes[at].returned
            || (self.has_heard(state, at) && version < state.returned);
        state.served_outdated |= is_told;
        state.ops[op].waiting = false;
        state.ops[op].step = Step::Done;
    }

    /// Ends a flight without a value: whoever has joined it gets the error.
    fn fail(&self, state: &mut State, op: usize) {
        for other in &mut state.ops {
            if other.step == Step::Joined && other.joined.is_some_and(|(flight, _)| flight == op) {
                other.step = Step::Done;
            }
        }
        state.ops[op].step = Step::Done;
    }

    fn accept(&self, state: &mut State, op: usize, found: Stored, generation: u8) {
        self.keep_found(state, op, found, generation);
        if self.is(Mutant::AnswerForAll) {
            self.ask_for(state, op, GET);
        }
        self.finish(state, op, found.version, GET);
    }

    /// Ends the flight: those who joined before this was asked for are served, the others start
    /// over.
    fn finish(&self, state: &mut State, op: usize, version: u8, what: usize) {
        let asked = state.ops[op].marks[what];
        let is_alone = state.ops[op].step == Step::LoadedAlone;
        for other in &mut state.ops {
            if other.step == Step::Joined
                && let Some((flight, joined)) = other.joined
                && flight == op
            {
                if joined < asked {
                    let floor = if is_alone {
                        Some(other.floor_alone)
                    } else {
                        other.floor
                    };
                    state.served_old |= floor.is_some_and(|floor| version < floor);
                    other.step = Step::Done;
                } else {
                    other.step = Step::Start;
                }
            }
        }
        state.served_old |= state.ops[op].floor.is_some_and(|floor| version < floor);
        state.ops[op].step = Step::Done;
        state.ops[op].waiting = false;
    }
}

fn is_tagged(state: &State, op: usize) -> bool {
    state.ops[op].kind == Kind::Read { tagged: true }
}

/// The order number of what an operation has stored.
fn version_order(state: &State, op: usize) -> Option<u8> {
    state.ops[op].value.and_then(|value| value.order)
}
