//! The channel on which processes tell each other of changes, where the server pushes nothing.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use larder_core::{LaneIndex, Push};
use tokio::sync::Notify;

use crate::{
    listeners::{Listeners, Told},
    time::{note, now, pause},
};

/// The channel of a history.
#[derive(Default)]
pub(crate) struct Bus(Mutex<Vec<Weak<Subscription>>>);

/// One process's subscription, which fails.
pub(crate) struct Subscription {
    bus: Arc<Bus>,
    node: u16,
    lanes: u16,
    listeners: Arc<Listeners>,
    state: Mutex<State>,
    arrived: Notify,
}

struct State {
    is_up: bool,
    /// Whether the process has been told of everything that it missed.
    is_told: bool,
    /// Messages on their way, each with the moment at which it was published.
    inbound: VecDeque<(u64, Told)>,
    /// Unless it is up: the moment up to which the process has heard of everything.
    heard: u64,
}

/// The longest time that a message takes, in milliseconds.
const MESSAGE: u64 = 20;

impl Bus {
    fn all(&self) -> MutexGuard<'_, Vec<Weak<Subscription>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes a process.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        (node, lanes): (u16, u16),
        listeners: Arc<Listeners>,
    ) -> Arc<Subscription> {
        let subscription = Arc::new(Subscription {
            bus: self.clone(),
            node,
            lanes,
            listeners,
            state: Mutex::new(State {
                is_up: true,
                is_told: true,
                inbound: VecDeque::new(),
                heard: 0,
            }),
            arrived: Notify::new(),
        });
        self.all().push(Arc::downgrade(&subscription));
        tokio::spawn(subscription.clone().hear()); // ends with the history
        subscription
    }
}

impl Subscription {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state().is_up
    }

    /// The moment up to which the process has heard of everything.
    pub(crate) fn heard(&self, at: u64) -> u64 {
        let state = self.state();
        match (state.is_told, state.inbound.front()) {
            (false, _) => state.heard,
            (true, Some((published, _))) => *published,
            (true, None) => at,
        }
    }

    /// Tells all other processes.
    // P26 scripts-publish: in the step of the change
    pub(crate) fn publish(&self, told: &[Told]) {
        let all: Vec<_> = self.bus.all().iter().filter_map(Weak::upgrade).collect();
        for other in all.iter().filter(|other| other.node != self.node) {
            let at = now();
            let mut state = other.state();
            if state.is_up {
                let told = told.iter().map(|told| (at, told.clone()));
                state.inbound.extend(told);
                other.arrived.notify_one();
            }
        }
    }

    async fn hear(self: Arc<Self>) {
        loop {
            while self.state().inbound.is_empty() {
                self.arrived.notified().await;
            }
            pause(MESSAGE).await;
            let next = self.state().inbound.pop_front();
            if let Some((_, told)) = next {
                note(|| format!("node {} is told of {told}", self.node));
                let lanes = match told {
                    Told::Tag(_) | Told::TagEpoch => self.lanes,
                    _ => 1,
                };
                for lane in LaneIndex::all(lanes) {
                    self.listeners.tell(told.as_push(lane));
                }
            }
        }
    }

    /// Loses the subscription, and what is on its way.
    pub(crate) async fn lose(&self) {
        {
            let mut state = self.state();
            let published = state.inbound.front().map(|(at, _)| *at);
            state.heard = published.unwrap_or_else(now);
            (state.is_up, state.is_told) = (false, false);
            state.inbound.clear();
        }
        note(|| format!("node {} has lost its subscription", self.node));
        pause(2).await;
        self.tell_lost();
    }

    /// Subscribes anew.
    pub(crate) async fn restore(&self) {
        self.state().is_up = true;
        note(|| format!("node {} has subscribed", self.node));
        pause(2).await;
        self.tell_lost();
        self.state().is_told = true;
    }

    fn tell_lost(&self) {
        let at = now();
        for lane in LaneIndex::all(self.lanes) {
            self.listeners.tell(Push::Lane(lane));
        }
        self.state().heard = at;
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
