//! Two processes on one server, with gates in their ways.

use std::sync::{Arc, Mutex};

use larder::{Clock, Larder, ManualClock};

use super::{
    calls::{Items, get, gets},
    gated::Gated,
    policy::{MINUTE, builder_of, ms, named, policy},
    wait::{BOUND, holds},
    world::World,
};

/// Two processes on one server, with gates in their ways.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) one: Process,
    pub(crate) other: Process,
}

/// A process, the gates in its way, and the hand of its clock.
pub(crate) struct Process {
    pub(crate) store: Arc<Gated>,
    pub(crate) larder: Larder,
    pub(crate) items: Items,
    pub(crate) instant: Items,
    /// Callers of this policy hardly wait for others.
    pub(crate) impatient: Items,
    pub(crate) hand: ManualClock,
}

/// The value of one key in the application's database.
#[derive(Clone, Default)]
pub(crate) struct Database(Arc<Mutex<String>>);

impl Database {
    pub(crate) fn holding(value: &str) -> Self {
        Self(Arc::new(Mutex::new(value.to_owned())))
    }

    pub(crate) fn write(&self, value: &str) -> String {
        value.clone_into(&mut self.0.lock().unwrap());
        value.to_owned()
    }

    pub(crate) fn read(&self) -> String {
        self.0.lock().unwrap().clone()
    }
}

impl Process {
    pub(crate) async fn new(world: &World) -> Self {
        let (store, (clock, hand)) = (Gated::new(world.store().await), Clock::manual());
        let policies = [
            policy(),
            named("instant").instant_clear(true),
            named("impatient").lease(MINUTE).max_wait(ms(50)),
        ];
        let larder = builder_of(&policies)
            .remote_store(store.clone())
            .clock(clock)
            .build()
            .await
            .unwrap();
        let [items, instant, impatient] =
            ["item", "instant", "impatient"].map(|name| larder.cache(name).unwrap());
        Self {
            store,
            larder,
            items,
            instant,
            impatient,
            hand,
        }
    }

    /// Waits until one more change by another process has been heard than `before`.
    pub(crate) async fn hears(&self, before: u64) {
        holds("a push arrives", || self.larder.stats().pushes > before).await;
    }
}

impl Stage {
    pub(crate) async fn new(world: World) -> Self {
        let (one, other) = (Process::new(&world).await, Process::new(&world).await);
        Self { world, one, other }
    }

    /// Each of the processes acts once on what the first one does.
    pub(crate) fn actors(&self) -> [&Process; 2] {
        [&self.one, &self.other]
    }

    /// Both processes, and one that starts now, read this from every level.
    pub(crate) async fn everybody_reads(&self, key: &str, expected: Option<&str>) {
        for process in self.actors() {
            gets(&process.items, key, expected).await;
        }
        let in_l2 = self.world.l2(&format!("item:{key}")).await;
        if let (Some(bytes), None) = (&in_l2, expected) {
            panic!("{key} is {bytes} in L2");
        }
    }

    /// Neither process, nor one that starts now, is served what was removed.
    pub(crate) async fn nobody_reads_the_old(&self, key: &str) {
        for process in self.actors() {
            let give_up = tokio::time::Instant::now() + BOUND;
            while get(&process.items, key).await.as_deref() == Some("old") {
                assert!(tokio::time::Instant::now() < give_up, "{key} is still old");
            }
        }
        assert_ne!(
            self.world.l2(&format!("item:{key}")).await.as_deref(),
            Some("\"old\"")
        );
    }
}
