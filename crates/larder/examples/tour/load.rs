//! Reads and writes from many tasks, as a service sees them: a few keys are hot, most of them are
//! cold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, Color};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use larder::Stats;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    app::Instance,
    chart::{self, Column, ratio},
    claim::{Result, until},
    database::{Database, USERS},
    page,
    stage::Tour,
    zipf::Zipf,
};

const TASKS: u64 = 64;
/// The exponent of the Zipf distribution; web traffic lies between 0.6 and 1.
const SKEW: f64 = 0.99;
const WRITES_PER_THOUSAND: u32 = 20;
/// The number of calls after which a task lets others run: a hit in L1 awaits nothing.
const CALLS_AT_A_STRETCH: u64 = 64;
/// The number of bars of the line over time.
const MOMENTS: u32 = 60;

/// Latencies in ns, by the work of a call.
struct Measured {
    served: Histogram<u64>,
    loaded: Histogram<u64>,
    written: Histogram<u64>,
}

/// One task's instance, database and numbers.
struct Worker {
    instance: Instance,
    database: Database,
    ids: Arc<Zipf>,
    random: fastrand::Rng,
    calls: Arc<AtomicU64>,
}

pub(crate) async fn show(tour: &Tour, lasts: Duration) -> Result {
    let page = &tour.page;
    let about = format!(
        "{TASKS} tasks read users and, {WRITES_PER_THOUSAND} times in a thousand, write one. Ids are \
         Zipf-distributed (s = {SKEW}) over {}.",
        page::count(USERS)
    );
    page.section("Load", &about)?;

    let before = tour.database.statements();
    let (measured, speeds) = run(tour, lasts).await?;
    let statements = tour.database.statements() - before;
    let stats: Vec<Stats> = tour
        .instances()
        .iter()
        .map(|instance| instance.larder.stats())
        .collect();

    let (reads, writes) = (
        measured.served.len() + measured.loaded.len(),
        measured.written.len(),
    );
    let speed = ratio(reads + writes, 1) / lasts.as_secs_f64();
    page.line(&format!(
        "calls over time  {}  {} on average",
        chart::sparkline(&speeds),
        page::rate(speed)
    ))?;
    page.blank()?;
    sources(tour, &stats, reads)?;
    page.blank()?;
    latencies(tour, &measured)?;
    page.blank()?;
    let columns = [
        Column {
            name: "served",
            colour: page::L1,
            latencies: &measured.served,
        },
        Column {
            name: "loaded",
            colour: page::LOAD,
            latencies: &measured.loaded,
        },
        Column {
            name: "written",
            colour: page::WRITE,
            latencies: &measured.written,
        },
    ];
    page.line(&chart::histograms(page, &columns))?;
    page.blank()?;
    let (reads, asked) = (
        page::count(reads),
        page::count(statements.saturating_sub(writes)),
    );
    page.line(&format!(
        "SQLite was asked {asked} times for {reads} reads."
    ))?;
    compare(tour, writes).await
}

/// Runs all tasks, and returns their measurements and the calls per second over time.
async fn run(tour: &Tour, lasts: Duration) -> Result<(Measured, Vec<f64>)> {
    let (ids, calls) = (
        Arc::new(Zipf::new(u32::try_from(USERS)?, SKEW)),
        Arc::new(AtomicU64::new(0)),
    );
    let end = Instant::now() + lasts;
    let mut workers = JoinSet::new();
    for (seed, instance) in (0..TASKS).zip(tour.instances().into_iter().cycle()) {
        let worker = Worker {
            instance: instance.clone(),
            database: tour.database.clone(),
            ids: ids.clone(),
            random: fastrand::Rng::with_seed(seed),
            calls: calls.clone(),
        };
        workers.spawn(worker.work(end));
    }
    let speeds = watch(&calls, lasts).await?;
    let mut all = Measured::new()?;
    while let Some(measured) = workers.join_next().await {
        all.add(&measured??)?;
    }
    Ok((all, speeds))
}

/// Draws the progress until the end, and takes the speed from time to time.
async fn watch(calls: &AtomicU64, lasts: Duration) -> Result<Vec<f64>> {
    let bar = ProgressBar::new(u64::from(MOMENTS));
    bar.set_style(
        ProgressStyle::with_template("  {bar:60.green/238} {elapsed:>4}  {msg}")?
            .progress_chars("━╸─"),
    );
    let step = lasts / MOMENTS;
    let mut tick = tokio::time::interval_at(Instant::now() + step, step);
    let mut speeds = Vec::new();
    let (mut last, mut last_at) = (0, Instant::now());
    for _ in 0..MOMENTS {
        tick.tick().await;
        let (now, so_far) = (Instant::now(), calls.load(Ordering::Relaxed));
        let speed = ratio(so_far - last, 1) / (now - last_at).as_secs_f64();
        speeds.push(speed);
        (last, last_at) = (so_far, now);
        bar.set_message(format!(
            "{} calls, {}",
            page::count(so_far),
            page::rate(speed)
        ));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(speeds)
}

impl Worker {
    async fn work(mut self, end: Instant) -> Result<Measured> {
        let mut measured = Measured::new()?;
        let loaded = Arc::new(AtomicBool::new(false));
        while Instant::now() < end {
            for _ in 0..CALLS_AT_A_STRETCH {
                let id = i64::try_from(self.ids.draw(&mut self.random))?;
                let start = Instant::now();
                let kind = if self.random.u32(..1000) < WRITES_PER_THOUSAND {
                    self.instance.log_in(id).await?;
                    &mut measured.written
                } else {
                    let user = self.read(id, &loaded).await?;
                    if user != id {
                        return Err(format!("the user {user} was returned for {id}").into());
                    }
                    if loaded.swap(false, Ordering::Relaxed) {
                        &mut measured.loaded
                    } else {
                        &mut measured.served
                    }
                };
                kind.record(u64::try_from(start.elapsed().as_nanos())?)?;
            }
            self.calls.fetch_add(CALLS_AT_A_STRETCH, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        Ok(measured)
    }

    /// Reads as the application does, and notes whether this very call had to load.
    async fn read(&self, id: i64, loaded: &Arc<AtomicBool>) -> Result<i64> {
        let (database, loaded) = (self.database.clone(), loaded.clone());
        let loader = move || async move {
            loaded.store(true, Ordering::Relaxed);
            database.user(id).await
        };
        Ok(self.instance.users.get_or_load(id, loader).await?.id)
    }
}

impl Measured {
    fn new() -> Result<Self> {
        let empty = || Histogram::new(2);
        Ok(Self {
            served: empty()?,
            loaded: empty()?,
            written: empty()?,
        })
    }

    fn add(&mut self, other: &Self) -> Result {
        self.served.add(&other.served)?;
        self.loaded.add(&other.loaded)?;
        self.written.add(&other.written)?;
        Ok(())
    }
}

/// The levels that the reads' values came from.
fn sources(tour: &Tour, stats: &[Stats], reads: u64) -> Result {
    let sum = |count: fn(&Stats) -> u64| stats.iter().map(count).sum::<u64>();
    let (l1, l2, loads) = (sum(|s| s.l1_hits), sum(|s| s.l2_hits), sum(|s| s.loads));
    let shared = reads.saturating_sub(l1 + l2 + loads);
    let mut table = tour.page.table(&["reads served by", "reads", "share", ""]);
    for (name, count, colour) in [
        ("L1", l1, page::L1),
        ("L2", l2, page::L2),
        ("the database", loads, page::LOAD),
        ("another caller's read", shared, Color::Grey),
    ] {
        let share = ratio(count, reads);
        table.add_row([
            Cell::new(name),
            Cell::new(page::count(count)).set_alignment(CellAlignment::Right),
            Cell::new(format!("{:.2}%", 100.0 * share))
                .fg(colour)
                .set_alignment(CellAlignment::Right),
            Cell::new(chart::bar(share, 44)).fg(colour),
        ]);
    }
    tour.page.show(&table)
}

fn latencies(tour: &Tour, measured: &Measured) -> Result {
    let mut table = tour
        .page
        .table(&["calls", "number", "p50", "p90", "p99", "p99.9", "max"]);
    for (name, latencies, colour) in [
        ("read, served", &measured.served, page::L1),
        ("read, loaded", &measured.loaded, page::LOAD),
        ("write-through", &measured.written, page::WRITE),
    ] {
        let number = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let at = |quantile| {
            number(page::duration(Duration::from_nanos(
                latencies.value_at_quantile(quantile),
            )))
        };
        let max = number(page::duration(Duration::from_nanos(latencies.max())));
        let count = number(page::count(latencies.len()));
        table.add_row([
            Cell::new(name).fg(colour),
            count,
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            max,
        ]);
    }
    tour.page.show(&table)
}

/// After all this, every instance and the database must agree on every user.
async fn compare(tour: &Tour, writes: u64) -> Result {
    let page = &tour.page;
    let users = tour.database.all_users().await?;
    let logins: i64 = users.iter().map(|user| user.logins).sum();
    page.claim(logins.cast_unsigned() == writes, || {
        format!("{writes} writes are {writes} logins, not {logins}")
    })?;
    for instance in tour.instances() {
        for user in &users {
            // The pushes of the last writes may still be on their way.
            let agreed = || async { Ok((*instance.user(user.id).await? == *user).then_some(())) };
            until(
                &format!(
                    "{}'s agreement with the database on user {}",
                    instance.name, user.id
                ),
                agreed,
            )
            .await?;
        }
    }
    let (users, writes) = (page::count(USERS), page::count(writes));
    page.done(&format!(
        "After {writes} writes, every copy of all {users} users is what the database says."
    ))
}
