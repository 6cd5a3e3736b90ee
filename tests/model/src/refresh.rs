//! `refresh`: a load that begins after the call, whatever the levels have.

use crate::{
    Mutant, Protocol,
    reader::GET,
    state::{Kind, Op, State, Step},
};

impl Protocol {
    /// Starts a refresh, or joins one that has not asked for anything yet.
    pub(crate) fn start_refresh(&self, state: &mut State, op: usize) {
        let at = state.ops[op].process;
        // A load that begins now, or later, reads this version or a newer one.
        state.ops[op].floor = Some(state.db);
        state.ops[op].local_floor = state.db;
        let first = state.ops.iter().position(|other| {
            let is_early = other.asked == 0 || self.is(Mutant::RefreshJoinsLate);
            is_early
                && (other.kind, other.process) == (Kind::Refresh, at)
                && other.joined.is_none()
                && !matches!(other.step, Step::Start | Step::Done | Step::Dead)
        });
        if let Some(flight) = first {
            state.ops[op].joined = Some((flight, 0));
            state.ops[op].step = Step::Joined;
            return;
        }
        state.ops[op].stamp = state.processes[at].stamp();
        state.ops[op].step = if self.without_l2 {
            Step::LoadWithoutL2
        } else {
            Step::Claim
        };
    }

    /// Whether a refresh has met no load but such as may have begun before its callers came.
    pub(crate) fn is_for_refresh_to_replace(&self, op: &Op) -> bool {
        op.kind == Kind::Refresh && !op.other_is_new && !self.is(Mutant::RefreshTakesValue)
    }

    /// Whether a refresh claims once more, to find out whether the holder's load is new enough.
    pub(crate) fn is_in_doubt(&self, state: &mut State, op: usize, is_new: bool) -> bool {
        let op = &mut state.ops[op];
        if op.kind != Kind::Refresh {
            return false;
        }
        op.other_is_new |= is_new || self.is(Mutant::RefreshTakesHolder);
        !op.other_is_new && op.marks[GET] == 1
    }

    /// Binds all processes to what a refresh has found in L2 or stored there, as a write does: no
    /// level keeps a value from before the call.
    pub(crate) fn bind(&self, state: &mut State, op: usize, is_in_l2: bool) {
        let Some(floor) = state.ops[op].floor.filter(|_| is_in_l2) else {
            return;
        };
        state.returned = state.returned.max(floor);
        let own = &mut state.processes[state.ops[op].process].returned;
        *own = (*own).max(floor);
    }
}
