//! The properties of every state.

use stateright::Property;

use crate::{
    Protocol,
    protocol::{Action, PROCESSES},
    state::{Entry, Link, Message, Name, Op, Process, State, Step},
};

impl Protocol {
    pub(crate) fn promises(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no caller is served an older value than had returned when it came",
                |_, state: &State| !state.served_old,
            ),
            Property::always(
                "L2 holds no older value than has returned",
                |protocol: &Self, state: &State| {
                    protocol
                        .in_l2(state)
                        .is_none_or(|version| version >= protocol.bound(state))
                },
            ),
            Property::always(
                "L1 holds no older value than has returned here",
                |protocol: &Self, state: &State| {
                    state.processes.iter().all(|process| {
                        protocol
                            .served_by_l1(process)
                            .is_none_or(|entry| entry.version >= process.returned)
                    })
                },
            ),
            Property::always(
                "L1 holds no older value than has returned elsewhere and was pushed",
                |protocol: &Self, state: &State| {
                    (0..PROCESSES)
                        .filter(|at| protocol.is_up_to_date(state, *at))
                        .all(|at| {
                            let process = &state.processes[at];
                            let entry = protocol
                                .served_by_l1(process)
                                .filter(|entry| !is_short_lived(process, entry));
                            entry.is_none_or(|entry| entry.version >= protocol.bound(state))
                        })
                },
            ),
            Property::always(
                "when all is quiet, every copy equals the database's value",
                |protocol: &Self, state: &State| {
                    !protocol.is_quiet(state)
                        || (protocol
                            .in_l2(state)
                            .is_none_or(|version| version == state.db)
                            && state.processes.iter().all(|process| {
                                let entry = protocol
                                    .served_by_l1(process)
                                    .filter(|entry| !is_short_lived(process, entry));
                                entry.is_none_or(|entry| entry.version == state.db)
                            }))
                },
            ),
            Property::always(
                "a stale value is served only while no change of it is known",
                |_, state: &State| !state.served_outdated,
            ),
            Property::always(
                "a refresh returns only a value whose load began after the call",
                |_, state: &State| !state.refreshed_old,
            ),
            Property::always(
                "a process that has replaced a value reads no older one from L2",
                |protocol: &Self, state: &State| {
                    let connected = state.processes.iter().filter(|p| p.link == Link::Up);
                    let newest = connected.map(|process| process.returned).max();
                    !state.forgot
                        || protocol.in_l2(state)
                            >= newest.filter(|_| protocol.in_l2(state).is_some())
                },
            ),
            Property::always(
                "no waiter sleeps for ever",
                |protocol: &Self, state: &State| !protocol.is_stuck(state),
            ),
        ]
    }

    /// Whether all operations have ended, and no process has a chore left.
    fn is_quiet(&self, state: &State) -> bool {
        let mut chores = Vec::new();
        self.chores(state, &mut chores);
        chores.retain(|chore| !matches!(chore, Action::Expire | Action::Renew));
        let has_ended = |op: &Op| matches!(op.step, Step::Done | Step::Dead);
        chores.is_empty() && state.ops.iter().all(has_ended)
    }

    /// The version that L2 would serve.
    fn in_l2(&self, state: &State) -> Option<u8> {
        let stored = state.redis.value?;
        let is_pinned = stored
            .epoch
            .is_none_or(|epoch| state.redis.tag.is_some_and(|pinned| pinned <= epoch));
        is_pinned.then_some(stored.version)
    }

    /// Whether every push has reached this process, or the process knows that it is lost. On the
    /// bus, the process learns of its own changes by the reply.
    pub(crate) fn is_up_to_date(&self, state: &State, at: usize) -> bool {
        let process = &state.processes[at];
        let changes = |op: &Op| op.process == at && op.is_asking && !op.kind.loads();
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
            Link::Down | Link::Ready => !self.bus || process.channel.is_empty(),
            Link::Cut | Link::Withdrawn | Link::Bumped => false,
        }
    }

    /// Whether a waiter sleeps that no message and no time limit will wake.
    fn is_stuck(&self, state: &State) -> bool {
        state.redis.lease.is_none()
            && state.ops.iter().any(|op| {
                let process = &state.processes[op.process];
                let is_told = |name| matches!(name, Name::Lease | Name::Policy);
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
                    && !self.can_time_out(state, op)
            })
    }
}

/// Whether an entry lives for `degraded_l1_ttl` only, while no push tells its process of changes.
fn is_short_lived(process: &Process, entry: &Entry) -> bool {
    entry.degraded || entry.without_l2 && process.link != Link::Up
}
