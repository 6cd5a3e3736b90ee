//! `get_or_load`: the flight of a key, led by one caller and joined by others.

use crate::{
    Mutant, Protocol,
    state::{Entry, Kind, Link, Reply, State, Step, Stored},
};

/// Indices of a flight's `marks`: when it asked L2, when it started the loader, and when it began
/// to store.
pub(crate) const GET: usize = 0;
const LOAD: usize = 1;
const STORE: usize = 2;

impl Protocol {
    /// Takes a reader's step that sends no command.
    pub(crate) fn read(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        match state.ops[op].step {
            Step::Start => self.start_read(state, op),
            Step::Sleep => {
                // P1 stamp-before-read: a new stamp after a wait.
                state.ops[op].stamp = state.processes[at].stamp();
                state.ops[op].woken = false;
                state.ops[op].step = Step::Claim;
            }
            Step::ReadEpoch => {
                let is_connected = state.processes[at].link == Link::Up;
                state.ops[op].epoch = if is_connected { self.epoch(state) } else { 0 };
                state.ops[op].step = if self.is(Mutant::EpochAfterLoad) {
                    self.pin_or_commit(state, op)
                } else {
                    Step::Load
                };
            }
            Step::Load => {
                self.ask_for(state, op, LOAD);
                state.ops[op].value = Some(Stored {
                    version: state.db,
                    epoch: None,
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
                let is_late = self.is(Mutant::EpochAfterLoad) && is_tagged(state, op);
                state.ops[op].step = if is_late {
                    Step::ReadEpoch
                } else {
                    self.pin_or_commit(state, op)
                };
            }
            Step::LoadWithoutL2 => {
                self.renew_without_l2(state, op, state.ops[op].stamp); // P1 stamp-before-read
                state.ops[op].tag_seen = state.processes[at].own_tag;
                self.ask_for(state, op, LOAD);
                state.ops[op].value = Some(Stored {
                    version: state.db,
                    epoch: None,
                });
                state.ops[op].step = Step::LoadedWithoutL2;
            }
            Step::LoadedWithoutL2 => self.end_load_without_l2(state, op),
            _ => {}
        }
    }

    fn end_load_without_l2(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        self.ask_for(state, op, STORE);
        let Some(value) = state.ops[op].value else {
            return;
        };
        let (stamp, seen) = (state.ops[op].stamp, state.ops[op].tag_seen);
        let own_tag = is_tagged(state, op).then_some(seen);
        let entry = Entry {
            version: value.version,
            stamp,
            tag: None,
            own_tag,
            degraded: false,
            without_l2: !self.without_l2,
        };
        self.keep(&mut state.processes[at], entry);
        let process = &state.processes[at];
        let is_pinned = own_tag.is_none_or(|seen| seen == process.own_tag);
        let is_current = stamp == process.stamp() && is_pinned;
        self.finish(
            state,
            op,
            value.version,
            if is_current { STORE } else { LOAD },
        );
    }

    fn start_read(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        let floor = self.bound(state).max(state.processes[at].returned);
        if state.ops[op].floor.is_none() {
            state.ops[op].floor = Some(floor);
            state.ops[op].local_floor = state.processes[at].returned;
        }
        state.ops[op].joined = None;
        if state.ops[op].kind == Kind::Refresh {
            return self.start_refresh(state, op);
        }
        let is_reload = matches!(state.ops[op].kind, Kind::Reload { .. });
        if self.served_by_l1(&state.processes[at]).is_some() && !is_reload {
            // The content of L1 is a property of its own.
            state.ops[op].step = Step::Done;
            return;
        }
        let now = state.processes[at].stamp();
        let flight = state.ops.iter().position(|other| {
            let is_led = other.process == at && other.joined.is_none();
            is_led
                && other.kind.loads()
                && other.kind != Kind::Refresh
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
            Step::LoadWithoutL2
        } else {
            Step::Get
        };
    }

    fn ask_for(&self, state: &mut State, op: usize, what: usize) {
        state.ops[op].asked += 1;
        state.ops[op].marks[what] = state.ops[op].asked;
    }

    fn pin_or_commit(&self, state: &mut State, op: usize) -> Step {
        if !is_tagged(state, op) {
            return Step::Commit;
        }
        let epoch = state.ops[op].epoch;
        if let Some(value) = &mut state.ops[op].value {
            value.epoch = Some(epoch);
        }
        if self.is(Mutant::CommitWithoutPin) {
            Step::Commit
        } else {
            Step::Pin
        }
    }

    /// Sends a reader's command. The server runs it in the same step.
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
            Step::Pin if self.is(Mutant::PinInTwoSteps) => {
                Reply::Committed(self.epoch(state) == state.ops[op].epoch)
            }
            Step::Pin => self.pin_tag(state, state.ops[op].epoch, at),
            Step::PinLate => {
                self.create_tag(state, state.ops[op].epoch, at);
                self.read_tag(state, at)
            }
            _ => self.commit(state, op, at),
        }
    }

    /// Takes the reply.
    pub(crate) fn take_read(&self, state: &mut State, op: usize, reply: Reply) {
        match state.ops[op].step {
            Step::Get | Step::Claim => self.take_lookup(state, op, reply),
            Step::AskTag => self.take_tag(state, op, reply),
            Step::Pin | Step::PinLate => self.take_pin(state, op, reply),
            Step::Commit => self.take_commit(state, op, reply),
            Step::Confirm | Step::ConfirmTag => self.take_confirmation(state, op, reply),
            _ => {}
        }
    }

    fn take_lookup(&self, state: &mut State, op: usize, reply: Reply) {
        match (state.ops[op].step, reply) {
            (_, Reply::Lost) => {
                state.ops[op].waiting = false;
                state.ops[op].step = Step::LoadWithoutL2;
            }
            (Step::Get, Reply::Value(None)) => state.ops[op].step = Step::Claim,
            (Step::Get, Reply::Value(Some(found)))
                if matches!(state.ops[op].kind, Kind::Reload { .. }) && found.epoch.is_none() =>
            {
                self.keep_found(state, op, found, 0);
                state.ops[op].stale = Some((found.version, state.ops[op].stamp));
                self.replace(state, op, found);
            }
            (_, Reply::Value(Some(found))) if self.is_for_refresh_to_replace(&state.ops[op]) => {
                state.ops[op].waiting = false;
                self.replace(state, op, found);
            }
            (_, Reply::Value(Some(found))) => {
                state.ops[op].waiting = false;
                self.check_tag(state, op, found);
            }
            (Step::Claim, Reply::Leased) => {
                state.ops[op].waiting = false;
                let is_early = is_tagged(state, op) && !self.is(Mutant::EpochAfterLoad);
                state.ops[op].step = if is_early {
                    Step::ReadEpoch
                } else {
                    Step::Load
                };
            }
            (Step::Claim, Reply::Busy(is_new)) if self.is_in_doubt(state, op, is_new) => {
                (state.ops[op].waiting, state.ops[op].woken) = (false, false);
            }
            (Step::Claim, _) => {
                state.ops[op].waiting = true;
                state.ops[op].step = Step::Sleep;
                self.serve_stale(state, op);
            }
            _ => {}
        }
    }

    fn take_tag(&self, state: &mut State, op: usize, reply: Reply) {
        match reply {
            Reply::Lost => {
                state.ops[op].waiting = false;
                state.ops[op].step = Step::LoadWithoutL2;
            }
            Reply::Tag(pinned) => {
                let pinned = pinned.or(self.is(Mutant::MissingTagIsPinned).then_some(0));
                self.learn(state, op, pinned);
                let Some(found) = state.ops[op].value else {
                    return;
                };
                if pinned.is_some_and(|pinned| Some(pinned) <= found.epoch) {
                    self.accept(state, op, found, state.ops[op].tag_seen);
                } else {
                    self.replace(state, op, found);
                }
            }
            _ => {}
        }
    }

    fn take_pin(&self, state: &mut State, op: usize, reply: Reply) {
        match (state.ops[op].step, reply) {
            (Step::Pin, Reply::Committed(true)) => state.ops[op].step = Step::PinLate,
            (_, Reply::Tag(Some(pinned))) if pinned <= state.ops[op].epoch => {
                self.learn(state, op, Some(pinned));
                if self.is(Mutant::PinnedForAll) {
                    self.ask_for(state, op, STORE);
                }
                state.ops[op].step = Step::Commit;
            }
            _ => {
                let at = state.ops[op].process;
                if state.processes[at].link == Link::Up {
                    self.release(state, op, at);
                }
                self.wake_own(state, at);
                self.refuse(state, op);
            }
        }
    }

    fn take_commit(&self, state: &mut State, op: usize, reply: Reply) {
        let at = state.ops[op].process;
        self.wake_own(state, at);
        if reply != Reply::Committed(true) {
            self.refuse(state, op);
            return;
        }
        if self.is(Mutant::CommittedForAll) {
            self.ask_for(state, op, STORE);
        }
        if state.ops[op].kind == Kind::Refresh && !self.is(Mutant::RefreshLeavesOlder) {
            self.invalidate_locally(&mut state.processes[at]); // P9 reply-invalidates-again
        }
        state.ops[op].stamp = state.processes[at].stamp(); // P1 stamp-before-read
        state.ops[op].step = Step::Confirm;
        if self.is(Mutant::KeepUnread) {
            self.keep_committed(state, op);
        }
    }

    /// P4 l1-read-from-l2: a committed value enters L1 once L2 has returned it.
    fn take_confirmation(&self, state: &mut State, op: usize, reply: Reply) {
        let (at, version) = (state.ops[op].process, version(state, op));
        match (state.ops[op].step, reply) {
            (Step::Confirm, Reply::Value(found)) if found == state.ops[op].value => {
                let tag = state.processes[at].tag;
                let is_in_order = !self.bus || self.is(Mutant::BusIsTrustedWithTags);
                match (epoch_of_value(state, op), tag.known.filter(|_| is_in_order)) {
                    (Some(_), None) => state.ops[op].step = Step::ConfirmTag,
                    (Some(epoch), Some(pinned)) if pinned > epoch => {
                        self.finish(state, op, version, STORE)
                    }
                    _ => {
                        state.ops[op].tag_seen = tag.generation;
                        self.keep_committed(state, op);
                    }
                }
            }
            (Step::ConfirmTag, Reply::Tag(pinned)) => {
                self.learn(state, op, pinned);
                if pinned.is_some_and(|pinned| Some(pinned) <= epoch_of_value(state, op)) {
                    self.keep_committed(state, op);
                } else {
                    self.finish(state, op, version, STORE);
                }
            }
            // The value is stored and served, but does not enter this L1.
            _ => self.finish(state, op, version, STORE),
        }
    }

    fn keep_committed(&self, state: &mut State, op: usize) {
        let (at, seen) = (state.ops[op].process, &state.ops[op]);
        let Some(value) = seen.value else { return };
        let tag = value.epoch.map(|epoch| (epoch, seen.tag_seen));
        let entry = Entry {
            version: value.version,
            stamp: seen.stamp,
            tag,
            own_tag: None,
            degraded: false,
            without_l2: false,
        };
        self.keep(&mut state.processes[at], entry);
        self.finish(state, op, value.version, STORE);
    }

    /// P16 only-for-earlier-callers: serves the value only to callers that came before the load.
    fn refuse(&self, state: &mut State, op: usize) {
        let version = version(state, op);
        if self.is(Mutant::RefusedForAll) {
            self.ask_for(state, op, LOAD);
        }
        self.finish(state, op, version, LOAD);
    }

    /// P21 tags-pinned-in-time, P24 tags-known-by-lane: serves a value of L2 if its tag is pinned.
    fn check_tag(&self, state: &mut State, op: usize, found: Stored) {
        let tag = state.processes[state.ops[op].process].tag;
        let is_in_order = !self.bus || self.is(Mutant::BusIsTrustedWithTags);
        match (found.epoch, tag.known.filter(|_| is_in_order)) {
            _ if self.is(Mutant::TagIgnored) => self.accept(state, op, found, tag.generation),
            (None, _) => self.accept(state, op, found, tag.generation),
            (Some(epoch), Some(pinned)) if pinned <= epoch => {
                self.accept(state, op, found, tag.generation)
            }
            (Some(_), Some(_)) => self.replace(state, op, found),
            (Some(_), None) => {
                state.ops[op].value = Some(found);
                state.ops[op].step = Step::AskTag;
            }
        }
    }

    /// P3 clean-lease-commits: starts a load, which may replace exactly this value.
    fn replace(&self, state: &mut State, op: usize, found: Stored) {
        state.ops[op].replaces = Some(found);
        state.ops[op].step = Step::Claim;
    }

    fn learn(&self, state: &mut State, op: usize, pinned: Option<u8>) {
        let seen = state.ops[op].tag_seen;
        let tag = &mut state.processes[state.ops[op].process].tag;
        if tag.generation == seen || self.is(Mutant::LearnForgotten) {
            tag.known = pinned.or(tag.known);
        }
    }

    fn keep_found(&self, state: &mut State, op: usize, found: Stored, generation: u8) {
        let at = state.ops[op].process;
        let tag = found.epoch.map(|epoch| (epoch, generation));
        let entry = Entry {
            version: found.version,
            stamp: state.ops[op].stamp,
            tag,
            own_tag: None,
            degraded: false,
            without_l2: false,
        };
        self.keep(&mut state.processes[at], entry);
    }

    /// P28 stale-only-while-current: serves the stale value in place of a load, if there is one and
    /// the process knows of no change since.
    fn serve_stale(&self, state: &mut State, op: usize) {
        let Some((version, stamp)) = state.ops[op].stale else {
            return;
        };
        let at = state.ops[op].process;
        if stamp != state.processes[at].stamp() && !self.is(Mutant::StaleUnchecked) {
            return;
        }
        let is_told = version < state.processes[at].returned
            || (self.is_up_to_date(state, at) && version < self.bound(state));
        state.served_outdated |= is_told;
        state.ops[op].waiting = false;
        state.ops[op].step = Step::Done;
    }

    /// Ends a flight without a value: its followers get the error.
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
        if self.is(Mutant::ReplyForAll) {
            self.ask_for(state, op, GET);
        }
        self.finish(state, op, found.version, GET);
    }

    /// Ends the flight. Followers that joined before the read or load `what` are served; the others
    /// start over.
    fn finish(&self, state: &mut State, op: usize, version: u8, what: usize) {
        let asked = state.ops[op].marks[what];
        let is_without_l2 = state.ops[op].step == Step::LoadedWithoutL2;
        let is_refresh = state.ops[op].kind == Kind::Refresh;
        let mut served_old = state.ops[op].floor.is_some_and(|floor| version < floor);
        for other in &mut state.ops {
            if other.step == Step::Joined
                && let Some((flight, joined)) = other.joined
                && flight == op
            {
                if joined < asked {
                    let floor = if is_without_l2 {
                        Some(other.local_floor)
                    } else {
                        other.floor
                    };
                    served_old |= floor.is_some_and(|floor| version < floor);
                    other.step = Step::Done;
                } else {
                    other.step = Step::Start;
                }
            }
        }
        if is_refresh {
            state.refreshed_old |= served_old;
            self.bind(state, op, what != LOAD && !is_without_l2);
        } else {
            state.served_old |= served_old;
        }
        state.ops[op].step = Step::Done;
        state.ops[op].waiting = false;
    }
}

fn is_tagged(state: &State, op: usize) -> bool {
    state.ops[op].kind == Kind::Read { tagged: true }
}

/// The version of an operation's value, 0 if it has none.
fn version(state: &State, op: usize) -> u8 {
    state.ops[op].value.map_or(0, |value| value.version)
}

/// The tag epoch of the value that an operation has stored.
fn epoch_of_value(state: &State, op: usize) -> Option<u8> {
    state.ops[op].value.and_then(|value| value.epoch)
}
