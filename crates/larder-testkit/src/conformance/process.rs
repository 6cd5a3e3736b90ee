use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larder_core::{
    Claim, Invalidated, Key, Push, PushListener, RemoteStore, Replacing, Token, Track, WriteClaim,
};

use crate::eventually;

/// How long a lease of these calls lives: longer than a suite takes.
const LEASE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(600);

/// A process with a store, which notes what it is told.
pub(super) struct Process {
    pub(super) store: Arc<dyn RemoteStore>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl PushListener for Heard {
    fn on_push(&self, push: Push<'_>) {
        let heard = match push {
            Push::Value(key) => format!("value {key}"),
            Push::Lease(key) => format!("lease {key}"),
            Push::Tag(lane, tag) => format!("tag {lane} {tag}"),
            Push::TagEpoch(lane) => format!("order {lane}"),
            Push::Prefix(prefix) => format!("prefix {prefix}"),
            Push::Lane(lane) => format!("lane {lane}"),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(heard);
    }
}

impl Process {
    pub(super) fn new(store: Arc<dyn RemoteStore>) -> Self {
        let heard = Arc::new(Heard::default());
        let weak = Arc::downgrade(&heard);
        store.subscribe(weak);
        Self { store, heard }
    }

    pub(super) fn forget(&self) {
        self.heard
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Returns how often the store told of this.
    pub(super) fn times(&self, push: &str) -> usize {
        let heard = self.heard.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().filter(|one| *one == push).count()
    }

    pub(super) async fn hears(&self, push: &str) {
        let heard = || {
            self.heard
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        };
        let said = eventually(Duration::from_secs(5), || {
            heard().iter().any(|one| one == push)
        })
        .await;
        assert!(said, "no push {push:?}; heard {:?}", heard());
    }

    pub(super) async fn claim(&self, key: &str, token: &Token) -> Claim {
        self.store
            .claim(key, token, LEASE, Replacing::Nothing, Track::Value)
            .await
            .expect("claim")
    }

    pub(super) async fn begin_write(&self, key: &str, token: &Token) -> WriteClaim {
        self.store
            .begin_write(key, token, LEASE)
            .await
            .expect("begin_write")
    }

    pub(super) async fn commit(&self, key: &str, token: &Token, value: &str) -> bool {
        self.store
            .commit(
                key,
                token,
                value.as_bytes(),
                TTL,
                Replacing::Nothing,
                Track::Value,
            )
            .await
            .expect("commit")
            .is_done()
    }

    pub(super) async fn invalidate(&self, key: &str) {
        let done = self
            .store
            .invalidate(&Key::from_stored_name(key), None)
            .await
            .expect("invalidate");
        assert_eq!(done, Invalidated::Done);
    }

    pub(super) async fn read(&self, key: &str) -> Option<String> {
        let stored = self.store.get_with_ttl(key, Track::Value).await;
        let stored = stored.expect("get");
        stored.map(|stored| String::from_utf8_lossy(&stored.value).into_owned())
    }

    pub(super) async fn fill(&self, key: &str, value: &str) {
        let token = Token::new();
        assert_eq!(self.begin_write(key, &token).await, WriteClaim::Leased);
        assert!(self.commit(key, &token, value).await);
    }
}
