use std::sync::{Arc, Mutex, Weak};

use larder_core::{Key, KeyBuf, LaneIndex, LaneState, Lanes, Push, PushListener, RemoteEvent};
use larder_redis::RedisStore;
use larder_testkit::Proxy;
use tokio::time::Instant;

use super::wait::holds;

/// Notes what happens to a store, and how many connections a proxy had accepted by then.
pub(crate) struct Events {
    proxy: Option<Arc<Proxy>>,
    pub(crate) seen: Mutex<Vec<(RemoteEvent, Instant, usize)>>,
}

impl PushListener for Events {
    fn on_push(&self, _: Push<'_>) {}

    fn on_event(&self, event: RemoteEvent) {
        let connections = self.proxy.as_ref().map_or(0, |proxy| proxy.connections());
        self.seen
            .lock()
            .unwrap()
            .push((event, Instant::now(), connections));
    }
}

impl Events {
    pub(crate) fn of(store: &RedisStore, proxy: Option<Arc<Proxy>>) -> Arc<Self> {
        let events = Arc::new(Self {
            proxy,
            seen: Mutex::default(),
        });
        let listener: Weak<dyn PushListener> = Arc::downgrade(&events) as _;
        store.subscribe(listener);
        events
    }

    pub(crate) fn all(&self, event: RemoteEvent) -> Vec<(Instant, usize)> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|(seen, ..)| *seen == event)
            .map(|(_, at, connections)| (*at, *connections))
            .collect()
    }

    pub(crate) fn count(&self, event: RemoteEvent) -> usize {
        self.all(event).len()
    }

    /// The number of names that a server may have forgotten.
    pub(crate) fn forgotten(&self) -> u64 {
        let seen = self.seen.lock().unwrap();
        let forgotten = seen.iter().map(|(event, ..)| match event {
            RemoteEvent::DataLoss { count } => *count,
            _ => 0,
        });
        forgotten.sum()
    }
}

pub(crate) fn key(policy: &str, n: impl std::fmt::Display) -> Key {
    KeyBuf::format::<str>(policy, &n.to_string()).to_key()
}

pub(crate) fn are(store: &RedisStore, state: LaneState) -> bool {
    LaneIndex::all(store.lanes()).all(|lane| store.lane_state(lane) == state)
}

pub(crate) async fn cut_off(store: &RedisStore, proxy: &Proxy) {
    proxy.refuse(true);
    proxy.cut();
    holds("it is cut off", || are(store, LaneState::Down)).await;
}
