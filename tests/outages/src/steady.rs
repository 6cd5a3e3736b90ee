//! Sixty seconds of reads, in the middle of which Redis is gone for twenty.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use larder::{Cache, Larder, TtlTable};
use larder_testkit::RedisServer;
use tokio::{
    task::{JoinSet, block_in_place},
    time::{Instant, sleep_until},
};

use crate::{Problem, machine::Scheduled};

const TASKS: usize = 64;
/// Keys that are read all the time. Each is loaded once for each `degraded_l1_ttl` of the outage,
/// on any machine.
const KEYS: u32 = 2_000;
/// The number of reads after which a task lets others run.
const BATCH: usize = 32;
/// The least throughput of L1 while Redis is gone, as a share of that before.
const LEAST: f64 = 0.9;
const TABLE: &str =
    "[item]\nttl = \"1h\"\nreason = \"a policy as in production: all else at its default\"\n";

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The length of each of the three parts, in seconds.
    pub part: u32,
    /// The progress bar.
    pub progress: ProgressBar,
}

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    parts: [Part; 3],
    failed_reads: u64,
    writes: u64,
    failed_writes: u64,
}

/// The measurements before, during or after the outage.
#[derive(Debug, Default)]
struct Part {
    seconds: Vec<Second>,
}

#[derive(Debug)]
struct Second {
    reads: f64,
    l1_hits: f64,
    loads: f64,
    /// The share of the wanted processor time that the process was given.
    share: f64,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    reads: Vec<Padded>,
    failed_reads: AtomicU64,
    writes: AtomicU64,
    failed_writes: AtomicU64,
}

/// A counter on a cache line of its own, so that counting does not slow the readers down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

/// Runs the outage.
///
/// # Errors
/// If the run itself failed.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let mut server = RedisServer::start().await?;
    let larder = Larder::builder()
        .ttl_table(TtlTable::from_toml(TABLE)?)
        .redis(server.url())
        .build()
        .await?;
    let cache: Cache<u32, u64> = larder.cache("item")?;
    let reads = (0..TASKS).map(|_| Padded::default()).collect();
    let shared = Arc::new(Shared {
        reads,
        ..Shared::default()
    });
    let mut tasks = JoinSet::new();
    for index in 0..TASKS {
        tasks.spawn(read_on(cache.clone(), shared.clone(), index, settings.part));
    }
    let mut parts = [Part::default(), Part::default(), Part::default()];
    for (index, part) in parts.iter_mut().enumerate() {
        match index {
            1 => block_in_place(|| server.kill()),
            2 => block_in_place(|| tokio::runtime::Handle::current().block_on(server.restart()))?,
            _ => {}
        }
        part.measure(settings, &larder, &shared).await;
    }
    shared.stopping.store(true, Ordering::Release);
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let count = |counter: &AtomicU64| counter.load(Ordering::Acquire);
    Ok(Outcome {
        parts,
        failed_reads: count(&shared.failed_reads),
        writes: count(&shared.writes),
        failed_writes: count(&shared.failed_writes),
    })
}

async fn read_on(cache: Cache<u32, u64>, shared: Arc<Shared>, index: usize, part: u32) {
    let mut random = fastrand::Rng::new();
    // A few writes by each task in each part.
    let interval = Duration::from_secs(u64::from(part)) / 4;
    let mut next_write = Instant::now() + interval.mul_f64(random.f64());
    while !shared.stopping.load(Ordering::Acquire) {
        for _ in 0..BATCH {
            let read =
                cache.get_or_load(pick(&mut random), || async { Ok::<_, std::io::Error>(1) });
            if read.await.is_err() {
                shared.failed_reads.fetch_add(1, Ordering::Relaxed);
            }
        }
        shared.reads[index]
            .0
            .fetch_add(BATCH as u64, Ordering::Relaxed);
        if Instant::now() > next_write {
            next_write = Instant::now() + interval.mul_f64(0.5 + random.f64());
            shared.writes.fetch_add(1, Ordering::Relaxed);
            let written =
                cache.write_through(pick(&mut random), || async { Ok::<_, std::io::Error>(2) });
            if written.await.is_err() {
                shared.failed_writes.fetch_add(1, Ordering::Relaxed);
            }
        }
        // A hit awaits nothing, so no other task would run.
        tokio::task::yield_now().await;
    }
}

/// Picks a key, some much more often than others.
fn pick(random: &mut fastrand::Rng) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is below KEYS"
    )]
    let key = (random.f64().powi(4) * f64::from(KEYS)) as u32;
    key
}

impl Part {
    async fn measure(&mut self, settings: &Settings, larder: &Larder, shared: &Shared) {
        let reads = || {
            shared
                .reads
                .iter()
                .map(|reads| reads.0.load(Ordering::Relaxed))
                .sum::<u64>()
        };
        let mut last = (Instant::now(), reads(), larder.stats(), Scheduled::read());
        for _ in 0..settings.part {
            sleep_until(last.0 + Duration::from_secs(1)).await;
            let now = (Instant::now(), reads(), larder.stats(), Scheduled::read());
            let per_second = |count: u64| count as f64 / (now.0 - last.0).as_secs_f64();
            self.seconds.push(Second {
                reads: per_second(now.1 - last.1),
                l1_hits: per_second(now.2.l1_hits - last.2.l1_hits),
                loads: per_second(now.2.loads - last.2.loads),
                share: now.3.share_since(last.3),
            });
            last = now;
            settings.progress.inc(1);
        }
    }

    /// The median of the seconds by this measure.
    fn median(&self, by: impl Fn(&Second) -> f64) -> f64 {
        let mut values: Vec<f64> = self.seconds.iter().map(by).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    }
}

impl Outcome {
    /// The throughput of L1 during the outage, as a share of that before it: by the clock, and by
    /// the processors' time that the process was given.
    ///
    /// Other processes on the machine falsify the first. Two processors that share a core, and so
    /// are slower together, falsify the second.
    pub fn kept(&self) -> [f64; 2] {
        let by = |hits: fn(&Second) -> f64| self.parts[1].median(hits) / self.parts[0].median(hits);
        [
            by(|second| second.l1_hits),
            by(|second| second.l1_hits / second.share),
        ]
    }

    /// Whether no read failed and L1 was as fast as ever.
    pub fn is_good(&self) -> bool {
        self.failed_reads == 0 && self.kept().into_iter().any(|kept| kept >= LEAST)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{TASKS} tasks read {KEYS} keys; Redis is killed after the first part and starts again after the second"
        )?;
        for (name, part) in ["before", "during", "after"].into_iter().zip(&self.parts) {
            let least = part
                .seconds
                .iter()
                .map(|second| second.l1_hits)
                .fold(f64::INFINITY, f64::min);
            writeln!(
                f,
                "  {name:<7}{:>10.0} reads/s, {:>10.0} hits of L1/s (worst second {:>10.0}), {:>6.0} loads/s, {:>3.0} % of the \
                 processors wanted",
                part.median(|second| second.reads),
                part.median(|second| second.l1_hits),
                least,
                part.seconds.iter().map(|second| second.loads).sum::<f64>()
                    / part.seconds.len().max(1) as f64,
                part.median(|second| second.share) * 100.0,
            )?;
        }
        writeln!(
            f,
            "{} reads failed; of {} writes, {} did",
            self.failed_reads, self.writes, self.failed_writes
        )?;
        let [clock, given] = self.kept().map(|kept| kept * 100.0);
        writeln!(
            f,
            "L1's throughput during the outage is {clock:.0} % of that before it by the clock, {given:.0} % by the processors' time"
        )
    }
}
