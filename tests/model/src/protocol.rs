//! The protocol as a transition system, and what must hold in each of its states.

use stateright::{Model, Property};

use crate::{
    Mutant,
    state::{
        Entry, Faults, Kind, Link, Message, Name, Op, Outcome, Process, Redis, Reply, Stamp, State,
        Step, Stored, TagCell, Tracks,
    },
};

/// One configuration of the protocol.
#[derive(Clone, Debug, Default)]
pub struct Protocol {
    /// Its name in reports.
    pub name: &'static str,
    /// The operations, each with its process.
    pub ops: Vec<(usize, Kind)>,
    /// The value that L2 and both L1s hold at first, with the tag (`true`) or without.
    pub cached: Option<bool>,
    /// A process that does not die.
    pub immortal: Option<usize>,
    /// The faults that may happen.
    pub faults: Faults,
    /// The server refuses tracking, and the scripts tell.
    pub bus: bool,
    /// The server refuses both.
    pub blind: bool,
    /// There is no L2.
    pub without_l2: bool,
    /// The mechanism that is left out.
    pub mutant: Option<Mutant>,
}

/// The next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An operation takes its next step.
    Act(usize),
    /// An operation takes a step: a failing writer whose database has changed all the same.
    ActUnluckily(usize),
    /// A sleeper's time is over.
    Time(usize),
    /// A process handles what its lane brings next.
    Deliver(usize),
    /// A process handles the next reply, before the pushes in front of it. Only a mutant does so.
    Overtake(usize),
    /// A process handles what its bus brings next.
    Hear(usize),
    /// The lease runs out.
    Expire,
    /// A process dies.
    Die(usize),
    /// A connection is cut.
    Cut(usize),
    /// A process notices that, or gives a connection up.
    Lose(usize),
    /// It does the second half of that.
    Advance(usize),
    /// It is connected again.
    Reconnect(usize),
    /// It sends what it could not. Only a mutant does so on its own.
    Drain(usize),
    /// The server evicts a name.
    Evict(Name),
    /// The server evicts a name to make room for a command of this process. Only a mutant tells
    /// this from the other.
    EvictFor(Name, usize),
    /// The server evicts E.
    EvictOrder,
    /// An L1 evicts its entry.
    Forget(usize),
    /// Pushes do not arrive any more.
    Deafen(usize),
    /// A probe finds that out.
    Probe(usize),
    /// A subscription is lost.
    Unsubscribe(usize),
    /// That is noticed.
    Degrade(usize),
    /// It is there again.
    Subscribe(usize),
}

/// The number of processes.
pub(crate) const PROCESSES: usize = 2;

impl Protocol {
    pub(crate) fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn start(&self) -> State {
        let stored = self.stored_at_first();
        let is_told = !self.bus && !self.blind && stored.is_some();
        let tracks = Tracks {
            value: is_told,
            lease: false,
            tag: is_told,
        };
        State {
            db: 0,
            redis: Redis {
                value: stored,
                lease: None,
                order: 1,
                time: 2,
                tag: (self.cached == Some(true)).then_some(1),
                tracks: vec![tracks; PROCESSES],
            },
            processes: vec![self.first_process(); PROCESSES],
            ops: self
                .ops
                .iter()
                .map(|(process, kind)| Op::new(*process, *kind))
                .collect(),
            faults: self.faults,
            returned: 0,
            expired: false,
            served_old: false,
            served_outdated: false,
        }
    }

    /// The value that L2 holds before anything happens.
    fn stored_at_first(&self) -> Option<Stored> {
        self.cached.map(|tagged| Stored {
            version: 0,
            order: tagged.then_some(1),
        })
    }

    fn first_process(&self) -> Process {
        let is_tagged = self.cached == Some(true);
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
            key_cell: 0,
            lane_cell: 0,
            row_cell: 0,
            tag: TagCell {
                generation: 0,
                known: is_tagged.then_some(1),
            },
            l1: self.stored_at_first().map(|stored| Entry {
                version: 0,
                stamp: Stamp::default(),
                tag: stored.order.map(|order| (order, 0)),
                own_tag: None,
                degraded: self.blind,
            }),
            own_tag: 0,
            pending: None,
            pending_tag: None,
            returned: 0,
        }
    }

    /// Takes an operation's next step: asks, takes an answer, or does what needs neither.
    fn act(&self, state: &mut State, op: usize, unlucky: bool) {
        let (at, is_read) = (state.ops[op].process, state.ops[op].kind.is_read());
        if state.ops[op].is_asking {
            let Some(reply) = state.ops[op].reply.take() else {
                return;
            };
            state.ops[op].is_asking = false;
            if is_read {
                self.take_read(state, op, reply)
            } else {
                self.take_write(state, op, reply)
            }
            return;
        }
        if !asks(state.ops[op].step) {
            if is_read {
                self.read(state, op)
            } else {
                self.write(state, op, unlucky)
            }
            return;
        }
        state.ops[op].is_asking = true;
        match state.processes[at].link {
            Link::Up | Link::Advanced => {
                let reply = if is_read {
                    self.ask_read(state, op)
                } else {
                    self.ask_write(state, op)
                };
                state.processes[at].inbox.push(Message::Reply(op, reply));
            }
            Link::Cut => {} // until the loss is noticed
            Link::Withdrawn | Link::Down => state.ops[op].reply = Some(Reply::Lost),
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

    /// A sleeper wakes when its lease's time is over, P14 no-wait-for-expiry-push; told or not.
    pub(crate) fn can_time(&self, state: &State, op: &Op) -> bool {
        op.step == Step::Sleep
            && !op.woken
            && state.redis.lease.is_none()
            && state.expired
            && !self.is(Mutant::SleepWithoutEnd)
    }

    /// Whether whoever holds the lease does not renew it any more.
    pub(crate) fn is_orphan(&self, state: &State) -> bool {
        state.redis.lease.is_some_and(|lease| {
            let owner = &state.ops[lease.owner];
            !state.processes[owner.process].alive
                || matches!(owner.step, Step::Done | Step::Dead | Step::WriteLate)
                || matches!(
                    owner.step,
                    Step::LoadAlone | Step::LoadedAlone | Step::CommitAlone | Step::WriteDbAlone
                )
        })
    }
}

/// Whether a step asks L2 for something.
fn asks(step: Step) -> bool {
    matches!(
        step,
        Step::Get
            | Step::AskTag
            | Step::Claim
            | Step::Hold
            | Step::HoldLate
            | Step::Commit
            | Step::Confirm
            | Step::ConfirmTag
            | Step::Begin
            | Step::Withdraw
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
        for (op, doing) in state.ops.iter().enumerate() {
            if self.can_act(state, doing) {
                actions.push(Action::Act(op));
                let fails = matches!(doing.kind, Kind::WriteThrough(Outcome::Fails));
                if fails && doing.step == Step::WriteDb {
                    actions.push(Action::ActUnluckily(op));
                }
            }
            if self.can_time(state, doing) && state.processes[doing.process].alive {
                actions.push(Action::Time(op));
            }
        }
        self.chores(state, actions);
        self.mishaps(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let state = &mut next;
        match action {
            Action::Act(op) => self.act(state, op, false),
            Action::ActUnluckily(op) => self.act(state, op, true),
            Action::Time(op) => state.ops[op].woken = true,
            Action::Deliver(at) => self.deliver(state, at, false),
            Action::Overtake(at) => self.deliver(state, at, true),
            Action::Hear(at) => {
                let name = state.processes[at].channel.remove(0);
                self.hear(state, at, name);
            }
            Action::Expire => self.expire(state),
            Action::Die(at) => {
                state.faults.death -= 1;
                self.die(state, at);
            }
            Action::Cut(at) => self.cut(state, at),
            Action::Lose(at) => {
                if state.processes[at].link == Link::Up {
                    state.faults.loss -= 1;
                }
                self.lose(state, at);
            }
            Action::Advance(at) => self.advance(state, at),
            Action::Reconnect(at) => self.reconnect(state, at),
            Action::Drain(at) => self.drain(state, at),
            Action::Evict(name) => self.evict(state, name, None),
            Action::EvictFor(name, at) => self.evict(state, name, Some(at)),
            Action::EvictOrder => {
                state.faults.eviction -= 1;
                state.redis.order = 0;
            }
            Action::Forget(at) => {
                state.faults.forgetting -= 1;
                state.processes[at].l1 = None;
            }
            Action::Deafen(at) => self.deafen(state, at),
            Action::Probe(at) | Action::Degrade(at) => {
                state.processes[at].degraded = true;
                self.advance_lane(state, at);
            }
            Action::Unsubscribe(at) => self.unsubscribe(state, at),
            Action::Subscribe(at) => self.subscribe(state, at),
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
