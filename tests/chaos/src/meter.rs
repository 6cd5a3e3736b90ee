//! Measures many losses of data of one kind under load.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc, time::Duration};

use indicatif::ProgressBar;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    Problem,
    clock::now,
    copies::{copies, differing},
    database::Database,
    faults::{Fault, FaultKind, Topology},
    history::Kind,
    journal::Link,
    keys::Namespace,
    losses::lose,
    member::{Common, Copies, Member},
    outcome::HEALED,
    scene::Scene,
    servers::{Places, Servers},
    told::{Shared, lock},
};

/// The rounds to measure.
#[derive(Clone, Debug)]
pub struct Rounds {
    /// The program `chaos`.
    pub program: PathBuf,
    /// How the servers belong together.
    pub topology: Topology,
    /// The fault of each round, which loses data.
    pub fault: FaultKind,
    /// How many.
    pub number: u64,
    /// How long loads are counted once all processes are connected again: at least 2 s.
    pub watched: Duration,
    /// The nodes' answer when a server comes back with older data.
    pub on_data_loss: String,
    /// The seed of all random choices.
    pub seed: u64,
    /// Shows the progress.
    pub progress: ProgressBar,
}

impl Rounds {
    /// The topology and the fault of a kind of failover, by its name.
    pub fn kind(name: &str) -> Option<(Topology, FaultKind)> {
        Some(match name {
            "sentinel" => (Topology::Sentinel, FaultKind::Failover),
            "cluster" => (Topology::Cluster, FaultKind::Failover),
            "replica" => (Topology::Single, FaultKind::Replica),
            "snapshot" => (Topology::Single, FaultKind::Snapshot),
            "aof" => (Topology::Single, FaultKind::LostLog),
            _ => return None,
        })
    }
}

/// The figures of many rounds.
#[derive(Debug, Default)]
pub struct Metered {
    /// How long loads were counted once all processes were connected again.
    watched: Duration,
    reads: usize,
    writes: usize,
    /// Reads of a value that their own process had replaced.
    own: usize,
    /// Reads of a value that another process had replaced, later than that may take.
    elsewhere: usize,
    /// Reads from L1 of a value that another process had replaced, while a push was under way; and
    /// the age of the oldest, in milliseconds.
    pushed: (usize, f64),
    unequal: Vec<String>,
    failed: Vec<String>,
    /// For each round, in milliseconds: how long some process was without L2.
    away: Vec<f64>,
    /// For each round: loads each second before the loss.
    calm: Vec<f64>,
    /// For each round: loads each second from the loss until the end of the round.
    after: Vec<f64>,
    examples: Vec<String>,
}

/// Processes under load, which write and invalidate.
const NODES: u16 = 2;
/// 350 ms: values are loaded and written before the next fault.
const CALM: Duration = Duration::from_millis(350);
/// 100 ms: a killed server answers no more.
const KILLED: u64 = 100_000_000;
/// 60 s: how long links are remembered.
const LINKS: u64 = 60_000_000_000;
/// 60 s: within this time every process is connected again.
const BOUND: Duration = Duration::from_secs(60);

/// Measures rounds of one fault.
///
/// # Errors
/// If the rounds themselves do not work out: no server, or a node that ended.
pub async fn meter(rounds: &Rounds) -> Result<Metered, Problem> {
    let (database, _wants) = Database::start().await?;
    let mut scene = set(rounds, &database).await?;
    let watched = rounds.watched.max(HEALED);
    let mut metered = Metered {
        watched,
        ..Metered::default()
    };
    for _ in 0..rounds.number {
        round(rounds, &database, &mut scene, &mut metered).await?;
        rounds.progress.inc(1);
    }
    let mut told = lock(&scene.told);
    metered.writes = told.history.writes.len();
    metered.failed = std::mem::take(&mut told.failed_reads);
    Ok(metered)
}

async fn set<'a>(rounds: &'a Rounds, database: &'a Database) -> Result<Scene<'a>, Problem> {
    let mut random = fastrand::Rng::with_seed(rounds.seed);
    let servers = Servers::start(rounds.topology).await?;
    let told = Shared::default();
    let common = Common {
        program: &rounds.program,
        database: database.addr(),
        on_data_loss: &rounds.on_data_loss,
        is_gentle: true,
    };
    let mut members = Vec::new();
    for node in 0..NODES {
        let (seed, told) = (random.u64(..), told.clone());
        let member = Member::start(node, Namespace::North, &common, &servers, seed, told);
        members.push(member.await?);
    }
    Ok(Scene {
        servers,
        members,
        common,
        database,
        random,
        told,
        places: Places::default(),
        quiet: Arc::default(),
        left: None,
        losses: watch::Sender::new(0),
        next: NODES,
    })
}

async fn round(
    rounds: &Rounds,
    database: &Database,
    scene: &mut Scene<'_>,
    metered: &mut Metered,
) -> Result<(), Problem> {
    sleep(CALM).await; // what was asked for after the pause is loaded
    let begun = now();
    sleep(CALM).await;
    let (start, end) = lose(rounds.fault, scene).await?;
    let fault = Fault {
        kind: rounds.fault,
        node: None,
        start,
        end,
    };
    lock(&scene.told).history.faults.push(fault);
    let mut linked = start;
    for node in 0..NODES {
        linked = linked.max(connected(&scene.told, node, start + KILLED).await?);
    }
    sleep(metered.watched).await;
    for member in &mut scene.members {
        member.pause().await?;
    }
    let paused = now();
    let per_second = |times: Range<u64>| {
        let seconds = (times.end - times.start) as f64 / 1e9;
        database.loads(times) as f64 / seconds
    };
    metered.calm.push(per_second(begun..start));
    metered.after.push(per_second(start..paused));
    metered.away.push((linked - start) as f64 / 1e6);
    let all = copies(scene).await?;
    metered.note(&all, database, &scene.told);
    for member in &mut scene.members {
        member.go_on().await?;
    }
    Ok(())
}

/// Waits until a process reaches every server that it asks after this time, and returns when it
/// did.
async fn connected(told: &Shared, node: u16, after: u64) -> Result<u64, Problem> {
    let give_up = Instant::now() + BOUND;
    loop {
        let links = lock(told).history.links.clone();
        let mut links = links.iter().rev().filter(|link| link.start > after);
        if let Some(link) = links.rfind(|link| link.node == Some(node)) {
            return Ok(link.end);
        }
        if Instant::now() > give_up {
            return Err(format!("node {node} is not connected again").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}

impl Metered {
    /// Checks the reads of a round, and the copies at its end.
    fn note(&mut self, all: &[(String, Copies)], database: &Database, told: &Shared) {
        let mut told = lock(told);
        told.history.commits = database.commits();
        self.unequal.extend(differing(all, database, &told));
        let verdict = told.history.check();
        self.reads += told.history.reads.len();
        told.history.reads.clear();
        // Each write binds the reads of all rounds; a link matters until the next loss.
        let last = told.history.faults.last().map_or(0, |fault| fault.start);
        let is_needed = |link: &Link| link.start + LINKS > last;
        told.history.links.retain(is_needed);
        for violation in &verdict.violations {
            match violation.kind {
                Kind::OlderThanOwnWrite { .. } => self.own += 1,
                _ => self.elsewhere += 1,
            }
            self.examples.push(violation.to_string());
        }
        for stale in verdict.stale {
            let age = stale.age as f64 / 1e6;
            self.pushed = (self.pushed.0 + 1, self.pushed.1.max(age));
        }
    }

    /// Whether the promise was kept.
    pub fn is_good(&self) -> bool {
        self.own + self.elsewhere + self.unequal.len() + self.failed.len() == 0
    }
}

/// The median and the greatest of some figures.
fn median_and_worst(figures: &[f64]) -> (f64, f64) {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    let median = figures.get(figures.len() / 2).copied().unwrap_or(0.0);
    (median, figures.last().copied().unwrap_or(0.0))
}

impl fmt::Display for Metered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            watched,
            reads,
            writes,
            own,
            elsewhere,
            pushed: (pushed, oldest),
            unequal,
            failed,
            ..
        } = self;
        writeln!(
            f,
            "{} losses of data, {reads} reads checked, {writes} writes",
            self.away.len()
        )?;
        writeln!(f, "{own} reads of what their own process had replaced")?;
        writeln!(
            f,
            "{elsewhere} reads of what a connected process had replaced; in L1, {pushed} before \
             the push, the oldest after {oldest:.0} ms"
        )?;
        writeln!(
            f,
            "{} copies differ from the database after {watched:?}",
            unequal.len()
        )?;
        writeln!(f, "{} reads failed", failed.len())?;
        let (median, worst) = median_and_worst(&self.away);
        writeln!(f, "without L2: median {median:.0} ms, worst {worst:.0} ms")?;
        let (calm, _) = median_and_worst(&self.calm);
        let (after, worst) = median_and_worst(&self.after);
        writeln!(
            f,
            "loads each second: median {calm:.0} before; from the loss until {watched:?} after all \
             are connected {after:.0}, worst {worst:.0}"
        )?;
        let wrong = [&self.examples, unequal, failed];
        for what in wrong.into_iter().flatten().take(20) {
            writeln!(f, "  {what}")?;
        }
        Ok(())
    }
}
