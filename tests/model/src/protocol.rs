//! The protocol as a transition system.

use stateright::{Model, Property};

use crate::{
    Mutant,
    state::{
        Entry, Faults, Kind, Link, Message, Name, Op, Outcome, Process, Redis, RedoLog, Reply,
        Stamp, State, Step, Stored, TagCell, Tracks,
    },
};

/// One configuration of the protocol.
#[derive(Clone, Debug, Default)]
pub struct Protocol {
    /// Its name in reports.
    pub name: &'static str,
    /// The operations, each with its process.
    pub ops: Vec<(usize, Kind)>,
    /// A value that L2 and both L1s have at the start: with the tag (`true`) or without.
    pub cached: Option<bool>,
    /// A process that does not die.
    pub immortal: Option<usize>,
    /// The faults that may happen.
    pub faults: Faults,
    /// The server refuses tracking, and the scripts publish on the bus.
    pub bus: bool,
    /// The server refuses tracking and the bus.
    pub blind: bool,
    /// The server also tracks a key that it does not have, once a lane has asked for it.
    pub tracks_absences: bool,
    /// There is no L2.
    pub without_l2: bool,
    /// The mechanism that is missing.
    pub mutant: Option<Mutant>,
}

/// One transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operation takes its next step.
    Act(usize),
    /// A failing writer takes its next step, and the database has changed all the same.
    FailAfterChange(usize),
    /// A waiter's time limit ends.
    TimeOut(usize),
    /// A process handles the next message of its lane.
    Deliver(usize),
    /// A process handles the next reply, before the pushes in front of it. Only a mutant does this.
    Overtake(usize),
    /// A process handles the next message of the bus.
    Hear(usize),
    /// The lease runs out.
    Expire,
    /// A process dies.
    Die(usize),
    /// A connection is cut.
    Cut(usize),
    /// A process notices a lost connection, or gives one up.
    DropSession(usize),
    /// The process does the second half of that: it bumps the generations.
    BumpLane(usize),
    /// A process is about to connect again: it bumps the generations.
    Reconnect(usize),
    /// A process hands out its new connection.
    Install(usize),
    /// A process sends its unsent invalidations. Only a mutant does this in a step of its own.
    Drain(usize),
    /// The server evicts a name.
    Evict(Name),
    /// The server evicts a name to make room for a command of this process. This differs from
    /// `Evict` only for a mutant.
    EvictFor(Name, usize),
    /// The server evicts E.
    EvictEpoch,
    /// An L1 evicts its entry.
    Forget(usize),
    /// Pushes no longer arrive at a process.
    Deafen(usize),
    /// A probe notices that pushes do not arrive.
    Probe(usize),
    /// The server writes a snapshot.
    Snapshot,
    /// The server comes back with its snapshot.
    Restart,
    /// A process marks on the server which segments of its redo log are closed.
    Mark(usize),
    /// A redo log drops its closed segments.
    Overflow(usize),
    /// A process invalidates again what the server forgot. Only a mutant does this in a step of its
    /// own.
    Redo(usize),
    /// The holder of the lease renews it.
    Renew,
    /// A process loses its subscription.
    Unsubscribe(usize),
    /// A process notices that.
    Degrade(usize),
    /// A process subscribes again.
    Subscribe(usize),
}

/// The number of processes.
pub(crate) const PROCESSES: usize = 2;

impl Protocol {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The state before the first step.
    fn start(&self) -> State {
        let stored = self.stored_at_start();
        let is_tracked = !self.bus && !self.blind && stored.is_some();
        let tracks = Tracks {
            value: is_tracked,
            lease: false,
            tag: is_tracked,
        };
        State {
            db: 0,
            redis: Redis {
                value: stored,
                lease: None,
                epoch: 1,
                time: 2,
                tag: stored.and_then(|stored| stored.epoch),
                tracks: vec![tracks; PROCESSES],
                marks: vec![0; PROCESSES],
                run: 0,
            },
            snapshot: None,
            forgot: false,
            processes: vec![self.process_at_start(); PROCESSES],
            ops: self
                .ops
                .iter()
                .map(|(process, kind)| op_at_start(*process, *kind))
                .collect(),
            faults: self.faults,
            returned: 0,
            expired: false,
            served_old: false,
            served_outdated: false,
            refreshed_old: false,
        }
    }

    fn stored_at_start(&self) -> Option<Stored> {
        self.cached.map(|tagged| Stored {
            version: 0,
            epoch: tagged.then_some(1),
        })
    }

    fn process_at_start(&self) -> Process {
        let stored = self.stored_at_start();
        Process {
            alive: true,
            link: if self.without_l2 {
                Link::Down
            } else {
                Link::Up
            },
            inbox: Vec::new(),
            channel: Vec::new(),
            subscribed: self.bus,
            deaf: false,
            degraded: self.blind,
            key_generation: 0,
            lane_generation: 0,
            policy_generation: 0,
            tag: TagCell {
                generation: 0,
                known: stored.and_then(|stored| stored.epoch),
            },
            l1: stored.map(|stored| Entry {
                version: 0,
                stamp: Stamp::default(),
                tag: stored.epoch.map(|epoch| (epoch, 0)),
                own_tag: None,
                degraded: self.blind,
                without_l2: false,
            }),
            own_tag: 0,
            unsent: None,
            unsent_tag: None,
            returned: 0,
            log: RedoLog::default(),
        }
    }

    /// Takes an operation's next step: sends a command, takes a reply, or neither.
    fn act(&self, state: &mut State, op: usize, changes_db: bool) {
        let (at, loads) = (state.ops[op].process, state.ops[op].kind.loads());
        if state.ops[op].is_asking {
            let Some(reply) = state.ops[op].reply.take() else {
                return;
            };
            state.ops[op].is_asking = false;
            self.note_answer(state, op);
            if loads {
                self.take_read(state, op, reply)
            } else {
                self.take_write(state, op, reply)
            }
            return;
        }
        if !asks(state.ops[op].step) {
            if loads {
                self.read(state, op)
            } else {
                self.write(state, op, changes_db)
            }
            return;
        }
        if self.note(state, op) {
            return; // a step of its own: the command is sent later
        }
        state.ops[op].is_asking = true;
        if state.ops[op].step == Step::Begin {
            state.ops[op].stamp = state.processes[at].stamp(); // P1 stamp-before-read
        }
        match state.processes[at].link {
            Link::Up | Link::Bumped => {
                let reply = if loads {
                    self.ask_read(state, op)
                } else {
                    self.ask_write(state, op)
                };
                state.processes[at].inbox.push(Message::Reply(op, reply));
            }
            Link::Cut => {} // until the loss is noticed
            Link::Withdrawn | Link::Down | Link::Ready => state.ops[op].reply = Some(Reply::Lost),
        }
    }

    /// Whether an operation can take a step.
    fn can_act(&self, state: &State, op: &Op) -> bool {
        match op.step {
            Step::Done | Step::Dead | Step::Joined => false,
            _ if !state.processes[op.process].alive && op.kind != Kind::Foreign => false,
            Step::Sleep => op.woken,
            _ => !op.is_asking || op.reply.is_some(),
        }
    }

    /// P14 no-wait-for-expiry-push: whether a waiter wakes because the lease's time is over, with
    /// or without a push.
    pub(crate) fn can_time_out(&self, state: &State, op: &Op) -> bool {
        op.step == Step::Sleep
            && !op.woken
            && state.redis.lease.is_none()
            && state.expired
            && !self.is(Mutant::SleepWithoutEnd)
    }

    /// Whether the lease's holder no longer renews it.
    pub(crate) fn is_orphan(&self, state: &State) -> bool {
        state.redis.lease.is_some_and(|lease| {
            let owner = &state.ops[lease.owner];
            !state.processes[owner.process].alive
                || matches!(owner.step, Step::Done | Step::Dead | Step::WriteLate)
                || matches!(
                    owner.step,
                    Step::LoadWithoutL2
                        | Step::LoadedWithoutL2
                        | Step::CommitWithoutL2
                        | Step::WriteDbWithoutL2
                )
        })
    }
}

fn op_at_start(process: usize, kind: Kind) -> Op {
    Op {
        kind,
        process,
        step: Step::Start,
        is_asking: false,
        reply: None,
        stamp: Stamp::default(),
        tag_seen: 0,
        epoch: 0,
        value: None,
        floor: None,
        local_floor: 0,
        asked: 0,
        marks: [0; 3],
        joined: None,
        waiting: false,
        woken: false,
        replaces: None,
        stale: None,
        other_is_new: false,
        noted: None,
    }
}

/// Whether a step sends a command to L2.
fn asks(step: Step) -> bool {
    matches!(
        step,
        Step::Get
            | Step::AskTag
            | Step::Claim
            | Step::Pin
            | Step::PinLate
            | Step::Commit
            | Step::Confirm
            | Step::ConfirmTag
            | Step::Begin
            | Step::Invalidate
            | Step::ClearLeases
            | Step::ClearValues
    )
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (op, op_state) in state.ops.iter().enumerate() {
            if self.can_act(state, op_state) {
                actions.push(Action::Act(op));
                let fails = matches!(op_state.kind, Kind::WriteThrough(Outcome::Fails));
                if fails && op_state.step == Step::WriteDb {
                    actions.push(Action::FailAfterChange(op));
                }
            }
            if self.can_time_out(state, op_state) && state.processes[op_state.process].alive {
                actions.push(Action::TimeOut(op));
            }
        }
        self.chores(state, actions);
        self.fault_actions(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let state = &mut next;
        match action {
            Action::Act(op) => self.act(state, op, false),
            Action::FailAfterChange(op) => self.act(state, op, true),
            Action::TimeOut(op) => state.ops[op].woken = true,
            Action::Deliver(at) => self.deliver(state, at, false),
            Action::Overtake(at) => self.deliver(state, at, true),
            Action::Hear(at) => {
                let name = state.processes[at].channel.remove(0);
                self.hear(state, at, name);
            }
            Action::DropSession(at) => {
                if state.processes[at].link == Link::Up {
                    state.faults.loss -= 1;
                }
                self.drop_session(state, at);
            }
            Action::BumpLane(at) => self.bump_after_loss(state, at),
            Action::Reconnect(at) => self.reconnect(state, at),
            Action::Install(at) => self.install(state, at),
            Action::Drain(at) => self.drain(state, at),
            Action::Probe(at) | Action::Degrade(at) => {
                state.processes[at].degraded = true;
                self.bump_lane(state, at);
            }
            Action::Subscribe(at) => self.subscribe(state, at),
            Action::Renew => self.renew(state),
            Action::Redo(at) => self.redo(state, at),
            fault => self.happen(state, fault),
        }
        if next.redis.lease.is_some() {
            next.expired = false;
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        self.promises()
    }
}
