use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::{BoxFuture, join_all};
use larder_core::StoreError;
use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
    time::timeout,
};

use crate::{
    breaker::Permit,
    connection::{
        addresses::Addresses,
        bus::Subscription,
        dialer::{Dialed, Dialer},
    },
    health::{
        failover, probe,
        reconnect::{self, Limits},
        subscriber::Subscriber,
    },
    lane::Lane,
};

/// The tasks of a store. They keep its lanes connected and told of changes, and open each of its
/// connections, which the same runtime then drives: the tasks' *home*.
///
/// ```text
///    ┌──────────────────── the home has ended ────────────────────┐
///    ▼                                                            │
/// asleep ── a call, in another runtime ──▶ waking ── connected ──▶ awake
/// ```
pub(crate) struct Tasks {
    addresses: Arc<Addresses>,
    subscriber: Subscriber,
    /// Each lane with what opens its connections. A dialer is locked while its lane's task runs.
    lanes: Vec<(Arc<Lane>, Arc<Mutex<Dialer>>)>,
    phase: watch::Sender<Phase>,
    /// Whether the phase is [`Phase::Awake`]: a copy, because every call asks.
    is_awake: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No task runs, and no connection is in service.
    Asleep,
    /// The tasks have been started anew, and calls wait for their first try to connect.
    Waking,
    Awake,
    /// No task runs, and none will.
    Closed,
}

/// The runtime of the tasks. Each task holds a share, which the runtime drops with the task.
struct Home(Arc<Tasks>);

impl Tasks {
    pub(crate) fn new(
        addresses: Arc<Addresses>,
        subscriber: Subscriber,
        lanes: Vec<(Arc<Lane>, Dialer)>,
    ) -> Arc<Self> {
        let lockable = |(lane, dialer)| (lane, Arc::new(Mutex::new(dialer)));
        Arc::new(Self {
            addresses,
            subscriber,
            lanes: lanes.into_iter().map(lockable).collect(),
            phase: watch::Sender::new(Phase::Asleep),
            is_awake: AtomicBool::new(false),
        })
    }

    /// Connects a lane before the tasks are started.
    pub(crate) async fn connect(
        &self,
        lane: usize,
        permit: &Permit<'_>,
    ) -> Result<Dialed, StoreError> {
        let (lane, dialer) = &self.lanes[lane];
        reconnect::connect(lane, &mut *dialer.lock().await, permit).await
    }

    /// Starts the tasks in the runtime of the caller, if there is one, with these connections.
    pub(crate) fn start(self: &Arc<Self>, dialed: Vec<Dialed>) {
        self.start_in(Phase::Awake, dialed);
    }

    /// Starts the tasks anew, in the runtime of the caller, if theirs has ended. Then waits until
    /// the lanes are connected or cannot be, but no longer than for an answer.
    pub(crate) async fn wake(self: &Arc<Self>) {
        // Acquire pairs with the Release in `change`.
        if self.is_awake.load(Ordering::Acquire) || Handle::try_current().is_err() {
            return;
        }
        let _ = timeout(self.subscriber.config.command_timeout, self.first_try()).await;
        self.change(Phase::Waking, Phase::Awake);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        *self.phase.borrow() == Phase::Asleep
    }

    /// Ends the tasks for ever.
    pub(crate) fn close(&self) {
        self.phase.send_replace(Phase::Closed);
    }

    /// Starts the tasks, and waits until each lane is connected, or the circuit breaker says that
    /// they cannot be.
    async fn first_try(self: &Arc<Self>) {
        let Some((first, _)) = self.lanes.first() else {
            return;
        };
        let mut phases = self.phase.subscribe();
        loop {
            self.start_in(Phase::Waking, Vec::new());
            if *phases.borrow_and_update() != Phase::Waking {
                return;
            }
            let connected = self.lanes.iter().map(|(lane, _)| lane.current.connected());
            tokio::select! {
                _ = join_all(connected) => return,
                () = first.current.breaker.opened() => return, // all lanes share it
                // The home may end before it is connected. Then it is this runtime's turn.
                _ = phases.wait_for(|phase| *phase != Phase::Waking) => {}
            }
        }
    }

    fn start_in(self: &Arc<Self>, phase: Phase, dialed: Vec<Dialed>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !self.change(Phase::Asleep, phase) {
            return;
        }
        let home = Arc::new(Home(self.clone()));
        // Tasks of their own, because no caller would notice that an idle connection is lost, or
        // that nothing is told any more. A runtime that shuts down drops them in here.
        for task in self.make(dialed) {
            runtime.spawn(home.clone().run(task));
        }
    }

    fn make(&self, dialed: Vec<Dialed>) -> Vec<BoxFuture<'static, ()>> {
        let (config, lanes) = (&self.subscriber.config, &self.subscriber.lanes);
        let limits = Limits {
            ping_interval: config.ping_interval,
            renewal: config.connect_timeout,
            trial: config.connect_timeout,
        };
        let mut dialed = dialed.into_iter();
        let mut tasks: Vec<BoxFuture<'static, ()>> = vec![
            Box::pin(self.subscriber.clone().run()),
            Box::pin(probe::run(lanes.clone(), config.clone())),
            Box::pin(failover::run(
                self.addresses.clone(),
                lanes.clone(),
                config.connect_timeout,
            )),
        ];
        for (lane, dialer) in &self.lanes {
            let (lane, dialer) = (lane.clone(), dialer.clone());
            tasks.push(Box::pin(reconnect::keep_connected(
                lane,
                dialer,
                limits,
                dialed.next(),
            )));
        }
        tasks
    }

    /// Changes the phase, if it is this one.
    fn change(&self, from: Phase, to: Phase) -> bool {
        self.phase.send_if_modified(|phase| {
            let changes = *phase == from;
            if changes {
                *phase = to;
                // Under the phase's lock, so the copy is never older. Release pairs with the
                // Acquire in `wake`.
                self.is_awake.store(to == Phase::Awake, Ordering::Release);
            }
            changes
        })
    }
}

impl Home {
    /// Runs a task until it ends, or the store is closed.
    async fn run(self: Arc<Self>, task: BoxFuture<'static, ()>) {
        let mut phases = self.0.phase.subscribe();
        tokio::select! {
            () = task => {}
            // The sender lives as long as the tasks, so there is no error.
            _ = phases.wait_for(|phase| *phase == Phase::Closed) => {}
        }
    }
}

impl Drop for Home {
    // P32 runtime-end-is-loss: in the order of P10 loss-told-before-successor, when the last task
    // is gone and before the next ones are started
    fn drop(&mut self) {
        let tasks = &self.0;
        if *tasks.phase.borrow() == Phase::Closed {
            return;
        }
        tasks.subscriber.bus.set_up(Subscription::Down);
        for (lane, _) in &tasks.lanes {
            lane.current.give_up(&"the runtime that drove it has ended");
        }
        for running in [Phase::Waking, Phase::Awake] {
            tasks.change(running, Phase::Asleep);
        }
    }
}
