//! A process with a larder.

mod reads;
mod writes;

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder::{Cache, Error, Larder, Loaded};
use larder_chaos::{Commit, Key, Link, PolicyName, Problem, Write, with_causes};
use larder_core::MemoryServer;
use serde::{Deserialize, Serialize};
use tokio::task::{AbortHandle, JoinError, JoinHandle};

use crate::{
    bus::Bus,
    database::{Database, DatabaseClient, ON_PURPOSE},
    journal::Journal,
    life::Life,
    names::{full, keys, namespace},
    setup::{CLIENTS, OPERATIONS, Setup, l1_store},
    store::Faulty,
    time::{clock, note, now, pause},
};

/// The cached value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) key: Key,
    pub(crate) version: u32,
}

/// A process with a larder, whose tasks read and write.
pub(crate) struct Node {
    number: u16,
    setup: Arc<Setup>,
    larder: Larder,
    caches: Vec<(PolicyName, Cache<u16, Versioned>)>,
    pub(crate) store: Arc<Faulty>,
    database: DatabaseClient,
    journal: Arc<Journal>,
    life: Life,
    clients: Mutex<Vec<JoinHandle<()>>>,
    ends_clients: Mutex<Vec<AbortHandle>>,
    /// Writes that returned while an invalidation was unsent: they do not bind the others yet.
    untold: Mutex<Vec<Write>>,
}

/// The version of each key that a reader without a loader is given.
pub(crate) type Copies = Vec<(Key, Option<u32>)>;

impl Node {
    /// Starts a process.
    pub(crate) async fn start(
        number: u16,
        setup: Arc<Setup>,
        (server, bus): (&MemoryServer, &Arc<Bus>),
        database: Arc<Database>,
        journal: Arc<Journal>,
    ) -> Result<Self, Problem> {
        let life = Life::default();
        let store = Faulty::connect((number, &life), setup.shape, server, bus);
        let store = Arc::new(store);
        let larder = Larder::builder()
            .ttl_table(setup.table.clone())
            .remote_store(store.clone())
            .namespace(namespace())
            .l1_store(l1_store())
            .l1_entries(1_000)
            .clock(clock())
            .build()
            .await?;
        let cache = |policy: PolicyName| Ok((policy, larder.cache(policy.name())?));
        let caches = setup.policies.iter().map(|policy| cache(*policy));
        let caches = caches.collect::<Result<_, Error>>()?;
        Ok(Self {
            number,
            setup,
            larder,
            caches,
            store,
            database: DatabaseClient::new(database, life.clone()),
            journal,
            life,
            clients: Mutex::default(),
            ends_clients: Mutex::default(),
            untold: Mutex::default(),
        })
    }

    /// Starts the tasks that call the caches.
    pub(crate) fn begin(self: &Arc<Self>) {
        for _ in 0..CLIENTS {
            let client = tokio::spawn(self.clone().work());
            self.ends_clients().push(client.abort_handle());
            self.clients().push(client);
        }
    }

    fn clients(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends_clients(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.ends_clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until its clients have ended, or have died with it.
    pub(crate) async fn clients_end(&self) -> Result<(), JoinError> {
        loop {
            let Some(client) = self.clients().pop() else {
                return Ok(());
            };
            match client.await {
                Err(error) if error.is_cancelled() => {}
                ended => ended?,
            }
        }
    }

    /// Kills the process: nothing that it has not sent leaves it any more.
    pub(crate) fn die(&self) {
        note(|| format!("{self} dies"));
        self.life.end();
        self.ends_clients().iter().for_each(AbortHandle::abort);
        self.store.all().iter().for_each(|lane| lane.die());
        self.journal.entries().deaths.insert(self.number, now());
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.life.is_over()
    }

    /// Reads and writes, one call after the other.
    async fn work(self: Arc<Self>) {
        for _ in 0..OPERATIONS {
            let key = self.pick();
            if fastrand::u8(0..16) < self.setup.writes {
                self.write(key).await;
            } else {
                self.read(key).await;
            }
            self.journal.entries().operations += 1;
            pause(8).await;
        }
    }

    fn pick(&self) -> Key {
        let policy = fastrand::choice(&self.setup.policies).copied();
        self.pick_of(policy.unwrap_or(PolicyName::Item))
    }

    fn pick_of(&self, policy: PolicyName) -> Key {
        let number = fastrand::usize(0..self.setup.keys);
        let mut keys = keys(policy);
        keys.nth(number).unwrap_or(Key(0))
    }

    fn cache(&self, policy: PolicyName) -> &Cache<u16, Versioned> {
        let found = self.caches.iter().find(|(of, _)| *of == policy);
        &found.unwrap_or(&self.caches[0]).1
    }

    /// The moment up to which this process has heard of every change of the key.
    fn heard(&self, key: Key, at: u64) -> u64 {
        let policy = key.policy();
        let lane = self.store.lane_of(&full(namespace(), key));
        let subscription = self.store.subscription.as_ref();
        match (policy.is_without_l1(), policy.has_tags()) {
            (true, false) => at,
            (true, true) => lane.heard_by_reply(at),
            (false, _) => {
                let heard = subscription.map_or(at, |subscription| subscription.heard(at));
                heard.min(lane.heard(at))
            }
        }
    }

    fn untold(&self) -> MutexGuard<'_, Vec<Write>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_written(&self, key: Key, version: u32) {
        let returned = now();
        note(|| format!("{self} has written version {version} of {key}"));
        self.untold().push(Write {
            node: Some(self.number),
            key,
            version,
            returned,
            told: None,
        });
    }

    /// Takes note that others are bound by what has returned, if nothing is left that could not be
    /// sent.
    pub(crate) fn tell(&self) {
        if self.is_dead() || self.store.all().iter().any(|lane| lane.unsent() > 0) {
            return;
        }
        let told = Some(now());
        let told = self
            .untold()
            .drain(..)
            .map(|write| Write { told, ..write })
            .collect::<Vec<_>>();
        self.journal.entries().writes.extend(told);
    }

    fn has_failed(&self, key: Key, error: &Error) {
        let text = with_causes(error);
        note(|| format!("{self} fails for {key}: {text}"));
        let is_expected = text.contains(ON_PURPOSE)
            || matches!(error, Error::WriteBusy { .. } | Error::TooManyLoads { .. });
        if !is_expected {
            let failure = format!("{self}: {key}: {text}");
            self.journal.entries().failures.push(failure);
        }
    }

    /// The copy of each key.
    pub(crate) async fn copies(&self) -> Result<Copies, Problem> {
        let mut copies = Vec::new();
        for (policy, cache) in &self.caches {
            let keys: Vec<Key> = keys(*policy).collect();
            let asked: Vec<u16> = keys.iter().map(|key| key.in_policy()).collect();
            let found = cache.get_many(&asked).await?;
            let version = |key: &Key| found.get(&key.in_policy()).map(|value| value.version);
            copies.extend(keys.iter().map(|key| (*key, version(key))));
        }
        Ok(copies)
    }

    /// A write of the database, for a call of this moment.
    fn commit(&self, by_hand: bool) -> Commit {
        let (node, start) = (Some(self.number), now());
        let (end, asked) = (now(), now());
        if self.store.all().iter().all(|lane| lane.is_in_service()) {
            let link = Link { node, start, end };
            self.journal.entries().links.push(link);
        }
        Commit {
            at: asked,
            asked,
            node,
            by_hand,
        }
    }
}

/// A value as a loader returns it.
fn loaded(key: Key, version: u32) -> Loaded<Versioned> {
    let loaded = Loaded::new(Versioned { key, version });
    match key.tag() {
        Some(tag) => loaded.tag(tag),
        None => loaded,
    }
}

/// Runs a call to its end, or drops it on its way.
async fn unless_dropped<R>(call: impl Future<Output = R>) -> Option<R> {
    if fastrand::u8(0..8) > 0 {
        return Some(call.await);
    }
    let patience = async {
        for _ in 0..fastrand::u8(0..6) {
            pause(20).await;
        }
    };
    tokio::select! {
        biased; // the call is begun in any case
        done = call => Some(done),
        () = patience => None,
    }
}

fn on_purpose() -> io::Error {
    io::Error::other(ON_PURPOSE)
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {}", self.number)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}
