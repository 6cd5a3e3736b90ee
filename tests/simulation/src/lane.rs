//! A lane of a process: its connections to the server, and the faults that hit them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use larder_core::{
    Invalidated, LaneIndex, Lanes, MemoryRemote, MemoryServer, Push, PushListener, StoreError,
};
use tokio::sync::Notify;

use crate::{
    bus::Subscription,
    life::Life,
    listeners::{Listeners, Told},
    question::{Order, Question, question, unreachable},
    queues::{Arrival, Phase, State},
    time::{linger, note, now, pause},
};

/// A lane of a process: one connection to the server, or two that are in no order with each other,
/// one of which is for tags.
///
/// A call, its effect, its reply and the pushes are steps apart. The calls of a connection take
/// effect in their order, and what the server sends arrives in its order.
pub(crate) struct Lane {
    index: LaneIndex,
    node: u16,
    life: Life,
    wires: Vec<Wire>,
    /// Over which a call takes effect that was sent before its connection was lost.
    stray: MemoryRemote,
    /// Where the server does not push.
    subscription: Option<Arc<Subscription>>,
    /// Names that are invalidated before the lane is in service again, and published then.
    unpublished: Mutex<Vec<Told>>,
    state: Mutex<State>,
    listeners: Arc<Listeners>,
}

struct Wire {
    remote: MemoryRemote,
    /// The server knows it weakly; this keeps it alive.
    _ear: Option<Arc<dyn PushListener>>,
    /// A call was sent, or may go on.
    sent: Notify,
    /// Something arrives, or may go on.
    arrived: Notify,
}

/// The longest time that a message takes without a fault, in milliseconds.
const MESSAGE: u64 = 12;

impl Lane {
    /// Connects a lane to the server, by this number of connections.
    pub(crate) fn connect(
        (node, index, life): (u16, u16, Life),
        wires: usize,
        server: &MemoryServer,
        listeners: Arc<Listeners>,
        subscription: Option<Arc<Subscription>>,
    ) -> Arc<Self> {
        let is_told = subscription.is_none();
        let lane = Arc::new_cyclic(|lane: &Weak<Self>| Self {
            index: LaneIndex(index),
            node,
            life: life.clone(),
            wires: (0..wires)
                .map(|wire| Wire::connect(server, is_told.then_some((lane, wire))))
                .collect(),
            stray: server.connect(),
            subscription,
            unpublished: Mutex::default(),
            state: Mutex::new(State::new(wires)),
            listeners,
        });
        for wire in 0..wires {
            // They end with the history.
            tokio::spawn(lane.clone().serve(wire));
            tokio::spawn(lane.clone().hear(wire));
        }
        lane
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection for values and leases.
    pub(crate) fn remote(&self) -> &MemoryRemote {
        &self.wires[0].remote
    }

    /// The number of the connection for tags.
    pub(crate) fn tags(&self) -> usize {
        self.wires.len() - 1
    }

    pub(crate) fn is_in_service(&self) -> bool {
        self.state().is_in_service()
    }

    /// The moment up to which the process has heard of everything.
    pub(crate) fn heard(&self, at: u64) -> u64 {
        self.state().heard(at)
    }

    /// Like [`heard`](Self::heard), for a policy without L1: unless pushes are lost, each reply
    /// comes after them.
    pub(crate) fn heard_by_reply(&self, at: u64) -> u64 {
        let state = self.state();
        if state.is_deaf { state.heard(at) } else { at }
    }

    /// Tells the other processes, where the server does not.
    pub(crate) fn publish(&self, told: &[Told]) {
        if let Some(subscription) = &self.subscription {
            subscription.publish(told);
        }
    }

    /// Takes note of an invalidation that was given to the connection while the lane is down.
    pub(crate) fn invalidated(&self, how: Invalidated, told: Vec<Told>) {
        note(|| format!("{self} remembers: {how:?} {told:?}"));
        match how {
            Invalidated::Done => self.publish(&told),
            Invalidated::Deferred => self.unpublished().extend(told),
        }
    }

    fn unpublished(&self) -> MutexGuard<'_, Vec<Told>> {
        self.unpublished
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn unsent(&self) -> u64 {
        self.remote().stats().unsent
    }

    /// Sends a call, and waits for its reply.
    pub(crate) async fn ask<R: Send + 'static>(
        &self,
        wire: usize,
        name: String,
        order: Order,
        effect: impl FnOnce(&MemoryRemote) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        // Other tasks may send their calls before this one, and handle pushes before its reply.
        linger().await;
        self.life.goes_on().await;
        let reply = {
            let mut state = self.state();
            if !state.is_in_service() {
                return Err(unreachable());
            }
            let (question, reply) = question(name, order, effect);
            state.queues[wire].requests.push_back(question);
            reply
        };
        self.wires[wire].sent.notify_one();
        let reply = reply.await.unwrap_or_else(|_| Err(unreachable()));
        linger().await;
        self.life.goes_on().await;
        reply
    }

    fn note(&self, line: fmt::Arguments<'_>) {
        note(|| format!("{self} {line}"));
    }

    /// The server's side of a connection.
    async fn serve(self: Arc<Self>, wire: usize) {
        loop {
            let number = loop {
                if let Some(number) = self.state().next_request(wire) {
                    break number;
                }
                self.wires[wire].sent.notified().await;
            };
            pause(MESSAGE).await;
            let question = self.state().take_request(wire, number);
            if let Some(question) = question {
                self.take_effect(wire, question);
                self.wires[wire].arrived.notify_one();
            }
        }
    }

    fn take_effect(&self, wire: usize, mut question: Box<dyn Question>) {
        let at = now();
        self.state().queues[wire].own = Some(Vec::new());
        question.run(&self.wires[wire].remote);
        self.note(format_args!("effect of {}", question.name()));
        let mut state = self.state();
        let queues = &mut state.queues[wire];
        let own = queues.own.take().unwrap_or_default().into_iter();
        let own = own.map(|told| (at, Arrival::Told(told)));
        let order = question.order();
        let reply = (at, Arrival::Reply(question));
        match order {
            Order::PushesFirst => queues.inbound.extend(own.chain([reply])),
            Order::ReplyFirst => queues.inbound.extend([reply].into_iter().chain(own)),
        }
    }

    /// The process's side of a connection: the driver, which handles what arrives.
    async fn hear(self: Arc<Self>, wire: usize) {
        loop {
            let number = loop {
                if let Some(number) = self.state().next_arrival(wire) {
                    break number;
                }
                self.wires[wire].arrived.notified().await;
            };
            pause(MESSAGE).await;
            // P17 pushes-before-replies: one after the other, as they were sent
            let (arrival, is_deaf) = {
                let mut state = self.state();
                (state.take_arrival(wire, number), state.is_deaf)
            };
            match arrival {
                Some(Arrival::Told(told)) if is_deaf => self.note(format_args!("loses {told}")),
                Some(Arrival::Told(told)) => {
                    self.note(format_args!("hears {told}"));
                    self.listeners.tell(told.as_push(self.index));
                }
                Some(Arrival::Reply(mut question)) => {
                    self.note(format_args!("reply to {}", question.name()));
                    question.answer();
                }
                None => {}
            }
        }
    }

    /// Takes note of a push of the server.
    fn sent_by_server(&self, wire: usize, told: Told) {
        let mut state = self.state();
        if state.is_switching || !state.is_connected() {
            return;
        }
        let at = now();
        let queues = &mut state.queues[wire];
        match &mut queues.own {
            Some(own) => own.push(told),
            None => queues.inbound.push_back((at, Arrival::Told(told))),
        }
        drop(state);
        self.wires[wire].arrived.notify_one();
    }

    /// Holds back everything, in both directions, or lets it go on.
    pub(crate) fn stall(&self, yes: bool) {
        self.note(format_args!("stalled: {yes}"));
        self.state().is_stalled = yes;
        self.wires.iter().for_each(Wire::go_on);
    }

    /// Loses every push from now on, until the connection is lost.
    pub(crate) fn deafen(&self) {
        self.note(format_args!("deaf"));
        let mut state = self.state();
        state.heard = state.heard(now());
        state.is_deaf = true;
    }

    /// Loses the connections. The first calls that were sent may still take effect.
    pub(crate) async fn lose(self: &Arc<Self>) {
        let strays = {
            let mut state = self.state();
            if !state.is_connected() {
                return;
            }
            // P10 loss-told-before-successor: out of service first
            state.lose(now())
        };
        self.note(format_args!("lost"));
        for wire in &self.wires {
            self.switch(|| wire.remote.disconnect());
            wire.go_on();
        }
        for stray in strays {
            tokio::spawn(self.clone().arrive_late(stray));
        }
        pause(2).await;
        self.forsake(fastrand::bool());
        pause(2).await;
        self.tell_lost();
        pause(2).await;
        self.forsake(true);
        self.state().phase = Phase::Away;
    }

    /// Loses the connections of a process that is dead.
    pub(crate) fn die(self: &Arc<Self>) {
        let strays = self.state().lose(now());
        for wire in &self.wires {
            self.switch(|| wire.remote.disconnect());
        }
        for stray in strays {
            tokio::spawn(self.clone().arrive_late(stray));
        }
    }

    /// Lets callers know that their connection is lost: all of them, or some.
    fn forsake(&self, all: bool) {
        let forsaken = {
            let forsaken = &mut self.state().forsaken;
            let first = if all { 0 } else { forsaken.len() / 2 };
            forsaken.split_off(first)
        };
        drop(forsaken); // each caller's place with it
    }

    /// The calls of a connection that take effect after it is lost, in their order.
    async fn arrive_late(self: Arc<Self>, strays: Vec<Box<dyn Question>>) {
        for mut question in strays {
            pause(2 * MESSAGE).await;
            question.run(&self.stray);
            self.note(format_args!("late effect of {}", question.name()));
        }
    }

    /// Connects anew, once all that is unsent has been done.
    pub(crate) async fn reconnect(&self) {
        if self.state().is_connected() {
            return;
        }
        self.tell_lost();
        pause(2).await;
        // P11 unsent-goes-first
        for wire in &self.wires {
            self.switch(|| wire.remote.reconnect());
        }
        let told = std::mem::take(&mut *self.unpublished());
        self.publish(&told);
        self.tell_lost(); // P10 loss-told-before-successor
        pause(2).await;
        self.state().install();
        self.note(format_args!("in service"));
        pause(2).await;
        self.tell_lost(); // P31 kept-only-while-away
        self.state().phase = Phase::InService;
    }

    fn switch(&self, switch: impl FnOnce()) {
        self.state().is_switching = true;
        switch();
        self.state().is_switching = false;
    }

    fn tell_lost(&self) {
        let at = now();
        self.note(format_args!("told lost"));
        self.listeners.tell(Push::Lane(self.index));
        self.state().heard = at;
    }
}

impl Wire {
    /// Connects to the server, which pushes to a wire of a lane, or to none.
    fn connect(server: &MemoryServer, told: Option<(&Weak<Lane>, usize)>) -> Self {
        let remote = server.connect();
        let ear = told.map(|(lane, wire)| -> Arc<dyn PushListener> {
            let lane = lane.clone();
            Arc::new(Ear { lane, wire })
        });
        if let Some(ear) = &ear {
            remote.subscribe(Arc::downgrade(ear));
        }
        Self {
            remote,
            _ear: ear,
            sent: Notify::new(),
            arrived: Notify::new(),
        }
    }

    fn go_on(&self) {
        self.sent.notify_one();
        self.arrived.notify_one();
    }
}

/// Takes the pushes of a connection, which arrive later.
struct Ear {
    lane: Weak<Lane>,
    wire: usize,
}

impl PushListener for Ear {
    fn on_push(&self, push: Push<'_>) {
        if let (Some(lane), Some(told)) = (self.lane.upgrade(), Told::of(push)) {
            lane.sent_by_server(self.wire, told);
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} lane {}", self.node, self.index.0)
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}
