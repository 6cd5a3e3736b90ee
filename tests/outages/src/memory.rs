//! A long outage, in which a million different keys are written.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use larder::{Cache, Larder, TtlTable};
use larder_testkit::{Proxy, RedisServer, Reply};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{Problem, machine::resident, tally::kind};

const KEYS: usize = 1_000_000;
/// One key in 200 has a value in Redis before the outage, which must not be served after it.
const STRIDE: usize = 200;
const TASKS: usize = 16;
/// 120 s: the longest time after the outage in which all invalidations must have been sent.
const BOUND: Duration = Duration::from_secs(120);
const TABLE: &str = "[item]\nttl = \"24h\"\nreason = \"longer than the outage, so that no old value goes unseen\"\n";

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The length of the outage.
    pub length: Duration,
    /// The progress bar.
    pub progress: ProgressBar,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Samples: a name of the time, the keys that were tried so far, the resident bytes, and the
    /// unsent invalidations.
    looks: Vec<(String, usize, u64, u64)>,
    /// The number of failed writes, by kind of error.
    refused: BTreeMap<&'static str, usize>,
    /// The time after the outage until all invalidations were sent.
    sent_after: Option<Duration>,
    /// Old values that were served or stayed in Redis, of keys whose write had returned without an
    /// error.
    old: Vec<String>,
    /// The number of values that were checked.
    looked_for: usize,
}

struct World {
    server: RedisServer,
    proxy: Proxy,
    cut_off: Larder,
    items: Cache<usize, u32>,
    /// The cache of `items` in a process that is connected all the time.
    others: Cache<usize, u32>,
    database: Vec<AtomicU32>,
    /// For each key, the newest version whose write or invalidation has returned without an error.
    returned: Vec<AtomicU32>,
    next: AtomicUsize,
    refused: Mutex<BTreeMap<&'static str, usize>>,
}

/// Runs the outage.
///
/// # Errors
/// If the run itself failed.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let world = Arc::new(World::new().await?);
    let mut looks = vec![world.look("before")];
    world.proxy.refuse(true);
    world.proxy.cut();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(world.clone().write_on(start, settings.length));
    }
    let minutes = settings.length.as_secs_f64() / 60.0;
    for minute in 1.. {
        let at = Duration::from_secs(60 * minute);
        if at >= settings.length {
            break;
        }
        while start.elapsed() < at {
            sleep(Duration::from_millis(500)).await;
            settings
                .progress
                .set_position(u64::try_from(world.tried())?);
        }
        looks.push(world.look(&format!("minute {minute}")));
    }
    while let Some(ended) = tasks.join_next().await {
        settings
            .progress
            .set_position(u64::try_from(world.tried())?);
        ended?;
    }
    looks.push(world.look(&format!("after {minutes:.1} minutes")));
    world.proxy.refuse(false);
    let healed = Instant::now();
    while world.cut_off.stats().unsent > 0 && healed.elapsed() < BOUND {
        sleep(Duration::from_millis(5)).await;
    }
    let sent_after = (world.cut_off.stats().unsent == 0).then(|| healed.elapsed());
    looks.push(world.look("all sent"));
    let old = world.old_values().await?;
    let refused =
        std::mem::take(&mut *world.refused.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Outcome {
        looks,
        refused,
        sent_after,
        old,
        looked_for: KEYS / STRIDE,
    })
}

impl World {
    async fn new() -> Result<Self, Problem> {
        let server = RedisServer::start().await?;
        let proxy = Proxy::start(&server.addr()).await?;
        let table = TtlTable::from_toml(TABLE)?;
        let cut_off = Larder::builder()
            .ttl_table(table.clone())
            .redis(proxy.url())
            .build()
            .await?;
        let connected = Larder::builder()
            .ttl_table(table)
            .redis(server.url())
            .build()
            .await?;
        let (items, others) = (cut_off.cache("item")?, connected.cache("item")?);
        let versions = |version| {
            (0..KEYS)
                .map(|_| AtomicU32::new(version))
                .collect::<Vec<_>>()
        };
        let world = Self {
            server,
            proxy,
            cut_off,
            items,
            others,
            database: versions(1),
            returned: versions(0),
            next: AtomicUsize::new(0),
            refused: Mutex::default(),
        };
        for key in (0..KEYS).step_by(STRIDE) {
            let load = || async { Ok::<_, std::io::Error>(1) };
            world.others.get_or_load(key, load).await?;
        }
        Ok(world)
    }

    fn tried(&self) -> usize {
        self.next.load(Ordering::Acquire).min(KEYS)
    }

    fn look(&self, when: &str) -> (String, usize, u64, u64) {
        (
            when.to_owned(),
            self.tried(),
            resident().unwrap_or(0),
            self.cut_off.stats().unsent,
        )
    }

    /// Writes the keys one after the other, each at its time.
    async fn write_on(self: Arc<Self>, start: Instant, length: Duration) {
        loop {
            let key = self.next.fetch_add(1, Ordering::AcqRel);
            if key >= KEYS {
                return;
            }
            sleep_until(start + length.mul_f64(key as f64 / KEYS as f64)).await;
            let world = self.clone();
            let writer = move || async move {
                Ok::<_, std::io::Error>(world.database[key].fetch_add(1, Ordering::AcqRel) + 1)
            };
            let written = match key % 3 {
                0 => self.items.write_around(key, writer).await,
                1 => self
                    .items
                    .write_through(key, writer)
                    .await
                    .map(|version| *version),
                _ => {
                    let written = writer().await.unwrap_or(0);
                    self.items.invalidate(key).await.map(|()| written)
                }
            };
            match written {
                Ok(version) => self.returned[key].store(version, Ordering::Release),
                Err(error) => {
                    let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    *refused.entry(kind(&error)).or_default() += 1;
                }
            }
        }
    }

    /// Looks for the values from before the outage, in both processes and in Redis.
    async fn old_values(&self) -> Result<Vec<String>, Problem> {
        let mut old = Vec::new();
        let mut client = self.server.client().await?;
        for key in (0..KEYS).step_by(STRIDE) {
            let floor = self.returned[key].load(Ordering::Acquire);
            let stored = client.command(&["GET", &format!("item:{key}")]).await?;
            let stored = if stored == Reply::Nil {
                None
            } else {
                stored.text().and_then(|text| text.parse().ok())
            };
            let here = self.items.get(key).await?.map(|version| *version);
            let there = self.others.get(key).await?.map(|version| *version);
            for (whose, version) in [
                ("Redis", stored),
                ("this process", here),
                ("another process", there),
            ] {
                if let Some(version) = version.filter(|version| *version < floor) {
                    old.push(format!(
                        "{whose} has version {version} of {key}, and {floor} had returned"
                    ));
                }
            }
        }
        Ok(old)
    }
}

impl Outcome {
    /// Whether all invalidations were sent and no old value is left.
    pub fn is_good(&self) -> bool {
        self.sent_after.is_some() && self.old.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{KEYS} different keys are written while Redis is out of reach"
        )?;
        for (when, tried, resident, unsent) in &self.looks {
            let mib = *resident as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "  {when:<20}{tried:>9} keys, {mib:>7.1} MiB resident, {unsent:>9} unsent"
            )?;
        }
        for (error, many) in &self.refused {
            writeln!(f, "  {many} writes were refused: {error}")?;
        }
        match self.sent_after {
            Some(after) => writeln!(f, "all was sent {after:.2?} after the outage")?,
            None => writeln!(f, "not everything was sent within {BOUND:?}")?,
        }
        writeln!(
            f,
            "{} old values are left, of {} looked for",
            self.old.len(),
            self.looked_for
        )?;
        for old in self.old.iter().take(20) {
            writeln!(f, "  {old}")?;
        }
        Ok(())
    }
}
