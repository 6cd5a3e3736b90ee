use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use larder::{Cache, Larder, TtlTable};
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::RedisStore;
use larder_testkit::Proxy;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Problem,
    database::Database,
    limits::{BRIEF_TTL, GRACE, Key, READERS, WRITER_LIMIT, WRITERS, redis},
    loads::Loads,
    tally::Tally,
};

/// The cached value. The version comes first, so that it is found in Redis behind a header of any
/// length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) version: u32,
    /// The age of the database when it returned the value, in milliseconds.
    made: u64,
}

/// A process to larder: a larder with a store and a connection to Redis of its own.
pub(crate) struct Member {
    pub(crate) proxy: Proxy,
    pub(crate) loads: Loads,
    /// The number of the process.
    index: usize,
    larder: Larder,
    store: Arc<RedisStore>,
    caches: [Cache<usize, Versioned>; 2],
    database: Arc<Database>,
    tally: Arc<Tally>,
    /// For each key, the oldest version that a read which begins now may return.
    floors: [AtomicU32; Key::COUNT],
    stopping: AtomicBool,
}

impl Member {
    pub(crate) async fn start(
        index: usize,
        server: &str,
        password: &str,
        table: TtlTable,
        database: Arc<Database>,
        tally: Arc<Tally>,
    ) -> Result<Self, Problem> {
        let proxy = Proxy::start(server).await?;
        let url = format!("redis://:{password}@{}", proxy.addr());
        let store = Arc::new(RedisStore::connect(redis(url)).await?);
        let loads = Loads::default();
        let larder = Larder::builder()
            .ttl_table(table)
            .remote_store(store.clone())
            .build()
            .await?;
        let caches = [
            larder.cache(Key::policy_name(0))?,
            larder.cache(Key::policy_name(1))?,
        ];
        let floors = std::array::from_fn(|_| AtomicU32::new(0));
        let stopping = AtomicBool::new(false);
        Ok(Self {
            proxy,
            loads,
            index,
            larder,
            store,
            caches,
            database,
            tally,
            floors,
            stopping,
        })
    }

    pub(crate) fn cache(&self, key: Key) -> &Cache<usize, Versioned> {
        &self.caches[key.policy()]
    }

    /// Reads every key once, so that both levels have it.
    pub(crate) async fn warm_up(self: &Arc<Self>) -> Result<(), Problem> {
        for key in Key::all() {
            self.load(key).await?;
        }
        Ok(())
    }

    /// Starts the callers.
    pub(crate) fn call(self: &Arc<Self>, callers: &mut JoinSet<()>, random: &mut fastrand::Rng) {
        for _ in 0..READERS {
            callers.spawn(self.clone().read_on(random.fork()));
        }
        for _ in 0..WRITERS {
            callers.spawn(self.clone().write_on(random.fork()));
        }
    }

    /// Ends each caller after its present call.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether all lanes track again, and no invalidation is unsent.
    pub(crate) fn is_well(&self) -> bool {
        let tracking = |lane| self.store.lane_state(lane) == LaneState::Tracking;
        LaneIndex::all(self.store.lanes()).all(tracking) && self.larder.stats().unsent == 0
    }

    async fn read_on(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.stopping.load(Ordering::Acquire) {
            self.read(Key::pick(&mut random)).await;
            sleep(Duration::from_millis(random.u64(1..8))).await;
        }
    }

    async fn read(self: &Arc<Self>, key: Key) {
        let floor = self.floors[key.index()].load(Ordering::Acquire);
        let start = Instant::now();
        let read = self.load(key).await;
        let took = start.elapsed();
        let age = self.database.age();
        let mut counts = self.tally.lock();
        counts.reads.note(took, &read);
        let Ok(value) = read else { return };
        if value.version < floor {
            let lost = format!(
                "version {} of {key}, and {floor} had returned",
                value.version
            );
            counts.lost.push(lost);
        }
        // L2 counts the lifetime from the commit, which may come some time after the load.
        let longest = BRIEF_TTL + WRITER_LIMIT + GRACE + took;
        if key.is_brief() && Duration::from_millis(age.saturating_sub(value.made)) > longest {
            counts.stale += 1;
        }
    }

    /// Reads a key, and loads it if no level has it.
    pub(crate) async fn load(self: &Arc<Self>, key: Key) -> Result<Arc<Versioned>, larder::Error> {
        let member = self.clone();
        let loader = move || async move {
            let _under_way = member.loads.begin(key);
            let version = member.database.read(key).await?;
            Ok::<_, io::Error>(Versioned {
                version,
                made: member.database.age(),
            })
        };
        self.cache(key).get_or_load(key.number(), loader).await
    }

    async fn write_on(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.stopping.load(Ordering::Acquire) {
            let key = Key::pick_written(self.index, &mut random);
            self.write(key, random.u8(0..100)).await;
            sleep(Duration::from_millis(random.u64(5..40))).await;
        }
    }

    async fn write(self: &Arc<Self>, key: Key, way: u8) {
        let member = self.clone();
        let writer = move || async move {
            // The writer's own time limit: larder has none for writers.
            let version = timeout(WRITER_LIMIT, member.database.write(key)).await??;
            Ok::<_, io::Error>(Versioned {
                version,
                made: member.database.age(),
            })
        };
        let cache = self.cache(key);
        let mut start = Instant::now();
        let written = match way {
            0..50 => cache
                .write_through(key.number(), writer)
                .await
                .map(|value| value.version),
            50..65 => cache
                .write_around(key.number(), writer)
                .await
                .map(|value| value.version),
            _ => {
                // Like a program that invalidates by hand. A failed write may have taken place.
                let _failed = writer().await;
                let version = self.database.version(key);
                start = Instant::now();
                cache.invalidate(key.number()).await.map(|()| version)
            }
        };
        let took = start.elapsed();
        if let Ok(version) = &written {
            self.floors[key.index()].fetch_max(*version, Ordering::AcqRel);
        }
        self.tally.lock().writes.note(took, &written);
    }
}
