//! The properties that hold in every state.

use stateright::Property;

use crate::{
    Protocol,
    protocol::{Action, PROCESSES},
    state::{Link, Message, Name, Op, State, Step},
};

impl Protocol {
    pub(crate) fn promises(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "a caller is served nothing older than what had returned when it came",
                |_, state: &State| !state.served_old,
            ),
            Property::always(
                "L2 holds nothing older than what has returned",
                |protocol: &Self, state: &State| {
                    protocol
                        .in_l2(state)
                        .is_none_or(|version| version >= state.returned)
                },
            ),
            Property::always(
                "L1 holds nothing older than what has returned here",
                |protocol: &Self, state: &State| {
                    state.processes.iter().all(|process| {
                        protocol
                            .served_by_l1(process)
                            .is_none_or(|entry| entry.version >= process.returned)
                    })
                },
            ),
            Property::always(
                "L1 holds nothing older than what has returned elsewhere and was told",
                |protocol: &Self, state: &State| {
                    (0..PROCESSES)
                        .filter(|at| protocol.has_heard(state, *at))
                        .all(|at| {
                            let entry = protocol
                                .served_by_l1(&state.processes[at])
                                .filter(|entry| !entry.degraded);
                            entry.is_none_or(|entry| entry.version >= state.returned)
                        })
                },
            ),
            Property::always(
                "when all is quiet, every copy is what the database holds",
                |protocol: &Self, state: &State| {
                    !protocol.is_quiet(state)
                        || (protocol
                            .in_l2(state)
                            .is_none_or(|version| version == state.db)
                            && state.processes.iter().all(|process| {
                                let entry = protocol
                                    .served_by_l1(process)
                                    .filter(|entry| !entry.degraded);
                                entry.is_none_or(|entry| entry.version == state.db)
                            }))
                },
            ),
            Property::always(
                "a stale value is served only while nobody is known to have changed it",
                |_, state: &State| !state.served_outdated,
            ),
            Property::always(
                "nobody sleeps whom nothing will wake",
                |protocol: &Self, state: &State| !protocol.sleeps_for_ever(state),
            ),
        ]
    }

    /// Nothing is under way, and nobody has anything more to notice.
    fn is_quiet(&self, state: &State) -> bool {
        let mut chores = Vec::new();
        self.chores(state, &mut chores);
        chores.retain(|chore| *chore != Action::Expire);
        let has_ended = |op: &Op| matches!(op.step, Step::Done | Step::Dead);
        chores.is_empty() && state.ops.iter().all(has_ended)
    }

    /// The version that L2 would serve.
    fn in_l2(&self, state: &State) -> Option<u8> {
        let stored = state.redis.value?;
        let is_held = stored
            .order
            .is_none_or(|order| state.redis.tag.is_some_and(|held| held <= order));
        is_held.then_some(stored.version)
    }

    /// Whether everything that was told has reached this process, or is known to be lost. What it
    /// did itself it is told by the answer: the server no longer tracks for it what its own script
    /// has changed.
    pub(crate) fn has_heard(&self, state: &State, at: usize) -> bool {
        let process = &state.processes[at];
        let changes = |op: &Op| op.process == at && op.is_asking && !op.kind.is_read();
        if self.bus && state.ops.iter().any(changes) {
            return false;
        }
        let is_pushed = process
            .inbox
            .iter()
            .any(|message| matches!(message, Message::Push(_)));
        match process.link {
            Link::Up if self.bus => process.subscribed && process.channel.is_empty(),
            Link::Up => {
                (!process.deaf || process.degraded) && !is_pushed && process.channel.is_empty()
            }
            Link::Down => !self.bus || process.channel.is_empty(),
            Link::Cut | Link::Withdrawn | Link::Advanced => false,
        }
    }

    /// Whether somebody sleeps whom nothing will wake.
    fn sleeps_for_ever(&self, state: &State) -> bool {
        state.redis.lease.is_none()
            && state.ops.iter().any(|op| {
                let process = &state.processes[op.process];
                let is_told = |name| matches!(name, Name::Lease | Name::Row);
                let will_be_told = process.channel.iter().copied().any(is_told)
                    || process
                        .inbox
                        .iter()
                        .any(|m| matches!(m, Message::Push(name) if is_told(*name)))
                    || state.ops.iter().any(|other| {
                        other.process == op.process
                            && (other.is_asking || other.step == Step::ClearValues)
                    });
                op.step == Step::Sleep
                    && !op.woken
                    && process.alive
                    && process.link == Link::Up
                    && !process.deaf
                    && !self.blind
                    && (!self.bus || process.subscribed)
                    && !will_be_told
                    && !self.can_time(state, op)
            })
    }
}
