use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::ProgressBar;
use larder_testkit::{Proxy, RedisServer, Reply};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    Problem,
    clock::now,
    database::Database,
    faults::{Fault, FaultKind, inject},
    history::{History, Verdict},
    journal::{Line, Write},
    keys::{Key, Namespace, PolicyName, Versioned},
    node::Caches,
};

/// Three processes of one namespace, as the protocol's races need, and two beside them of another.
const NODES: [Namespace; 5] = [
    Namespace::North,
    Namespace::North,
    Namespace::North,
    Namespace::South,
    Namespace::South,
];
/// Whoever does not answer within it has failed.
const BOUND: Duration = Duration::from_secs(30);
/// So long after the last operation, every copy is what the database holds.
const HEALED: Duration = Duration::from_secs(2);

/// What is run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program `chaos`.
    pub program: PathBuf,
    /// How long.
    pub length: Duration,
    /// What all random choices come from.
    pub seed: u64,
    /// The least time between two faults.
    pub pause: Duration,
    /// What shows how far it is.
    pub progress: ProgressBar,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub history: History,
    /// What was found in it.
    pub verdict: Verdict,
    /// Copies that are not what the database holds, two seconds after the last operation.
    pub unequal: Vec<String>,
    /// Reads that failed, which none should.
    pub failed_reads: Vec<String>,
    /// What failed writes said, and how many said so.
    pub failed_writes: BTreeMap<String, usize>,
    /// Reads of the cache alone that found nothing.
    pub misses: usize,
    /// When it began, in nanoseconds.
    pub start: u64,
    /// What the random choices came from.
    pub seed: u64,
}

/// What somebody is served of each key.
type Copies = Vec<(Key, Option<u32>)>;

/// A node, as the conductor has it.
pub(crate) struct Member {
    pub(crate) proxy: Proxy,
    pub(crate) pid: u32,
    input: ChildStdin,
    copies: Option<oneshot::Receiver<Copies>>,
    stopped: watch::Receiver<bool>,
    _process: Child,
}

/// What the nodes have told.
#[derive(Default)]
struct Told {
    history: History,
    failed_reads: Vec<String>,
    failed_writes: BTreeMap<String, usize>,
    misses: usize,
}

type Shared = Arc<Mutex<Told>>;

fn lock(told: &Shared) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs nodes and faults, and checks what came of it.
///
/// # Errors
/// If the run itself did not work out: no server, or a node that ended or does not answer.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let mut server = RedisServer::start().await?;
    let database = Arc::new(Database::start().await?);
    let told = Shared::default();
    let start = now();
    let mut members = Vec::new();
    for (index, namespace) in (0..).zip(NODES) {
        members.push(
            Member::start(
                (index, namespace),
                settings,
                &server,
                &database,
                random.u64(..),
                told.clone(),
            )
            .await?,
        );
    }
    let quiet = Arc::new(tokio::sync::Mutex::new(()));
    let foreign = Foreign {
        server: server.addr(),
        database: database.clone(),
        told: told.clone(),
        quiet,
    };
    let (quiet, stop) = (foreign.quiet.clone(), watch::Sender::new(false));
    let foreign =
        tokio::spawn(foreign.write_on(fastrand::Rng::with_seed(random.u64(..)), stop.subscribe()));

    disturb(settings, &mut server, &members, &mut random, &quiet, &told).await?;
    stop.send_replace(true);
    foreign.await??;
    for member in &mut members {
        member.stop().await?;
    }
    sleep(HEALED).await;
    let mut unequal = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        let copies = member.copies().await?;
        unequal.extend(differing(&format!("node {index}"), copies, &database));
    }
    unequal.extend(differing("L2", copies_of_l2(&server).await?, &database));
    unequal.extend(names_outside(&server).await?);

    drop(members);
    let mut told = std::mem::take(&mut *lock(&told));
    told.history.commits = database.commits();
    let verdict = told.history.check();
    let Told {
        history,
        failed_reads,
        failed_writes,
        misses,
    } = told;
    Ok(Outcome {
        history,
        verdict,
        unequal,
        failed_reads,
        failed_writes,
        misses,
        start,
        seed: settings.seed,
    })
}

/// One fault after the other, each kind as often as any other, until the time is over.
async fn disturb(
    settings: &Settings,
    server: &mut RedisServer,
    members: &[Member],
    random: &mut fastrand::Rng,
    quiet: &tokio::sync::Mutex<()>,
    told: &Shared,
) -> Result<(), Problem> {
    let begin = Instant::now();
    let end = begin + settings.length;
    let mut kinds = Vec::new();
    loop {
        let next = Instant::now() + settings.pause + Duration::from_millis(random.u64(0..600));
        // The bar moves also between two faults.
        while Instant::now() < next.min(end) {
            sleep_until(
                (Instant::now() + Duration::from_millis(200))
                    .min(next)
                    .min(end),
            )
            .await;
            let told = lock(told);
            let (reads, faults) = (told.history.reads.len(), told.history.faults.len());
            settings.progress.set_position(begin.elapsed().as_secs());
            settings
                .progress
                .set_message(format!("{reads} reads, {faults} faults"));
        }
        if next >= end {
            return Ok(());
        }
        if kinds.is_empty() {
            kinds.extend(FaultKind::ALL);
            random.shuffle(&mut kinds);
        }
        let kind = kinds.pop().unwrap_or(FaultKind::Cut);
        let fault = inject(kind, server, members, random, quiet).await?;
        lock(told).history.faults.push(fault);
    }
}

/// What a copy is, where it is not what the database holds.
fn differing(whose: &str, copies: Copies, database: &Database) -> Vec<String> {
    let differs = |(key, copy): (Key, Option<u32>)| {
        let (held, copy) = (database.version(key), copy?);
        (copy != held)
            .then(|| format!("{whose} has version {copy} of {key}; the database has {held}"))
    };
    copies.into_iter().filter_map(differs).collect()
}

/// The names in Redis that lie in no namespace: none should.
async fn names_outside(server: &RedisServer) -> Result<Vec<String>, Problem> {
    let Reply::Array(names) = server.command(&["KEYS", "*"]).await? else {
        return Err("the server does not say what it holds".into());
    };
    let names = names.iter().filter_map(Reply::text);
    let lies_outside = |name: &String| {
        !Namespace::ALL
            .iter()
            .any(|of| name.starts_with(&format!("{}/", of.name())))
    };
    Ok(names
        .filter(lies_outside)
        .map(|name| format!("{name} lies in no namespace"))
        .collect())
}

/// What a process that starts now is served from L2.
async fn copies_of_l2(server: &RedisServer) -> Result<Copies, Problem> {
    let mut copies = Vec::new();
    for namespace in Namespace::ALL {
        let (_larder, caches) = Caches::connect(&server.url(), namespace).await?;
        for key in Key::all(namespace) {
            let copy = caches.of(key).get(key.in_policy()).await?;
            copies.push((key, copy.map(|value| value.version)));
        }
    }
    Ok(copies)
}

impl Member {
    async fn start(
        (index, namespace): (u8, Namespace),
        settings: &Settings,
        server: &RedisServer,
        database: &Database,
        seed: u64,
        told: Shared,
    ) -> Result<Self, Problem> {
        let proxy = Proxy::start(&server.addr()).await?;
        let mut process = Command::new(&settings.program)
            .args([
                "node",
                &proxy.url(),
                &database.addr(),
                namespace.name(),
                &seed.to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let gone = "a node has ended";
        let (pid, input) = (process.id().ok_or(gone)?, process.stdin.take().ok_or(gone)?);
        let mut lines = BufReader::new(process.stdout.take().ok_or(gone)?).lines();
        let first = timeout(BOUND, lines.next_line()).await??.ok_or(gone)?;
        if Line::parse(&first, index) != Some(Line::Ready) {
            return Err(format!("a node said: {first}").into());
        }
        let (stops, stopped) = watch::channel(false);
        let (copied, copies) = oneshot::channel();
        // Ends with the process.
        tokio::spawn(listen(index, lines, told, stops, copied));
        Ok(Self {
            proxy,
            pid,
            input,
            copies: Some(copies),
            stopped,
            _process: process,
        })
    }

    async fn stop(&mut self) -> Result<(), Problem> {
        self.input.write_all(b"stop\n").await?;
        timeout(BOUND, self.stopped.wait_for(|stopped| *stopped))
            .await
            .map_err(|_| "a node does not stop")??;
        Ok(())
    }

    async fn copies(&mut self) -> Result<Copies, Problem> {
        self.input.write_all(b"copy\n").await?;
        let copies = self
            .copies
            .take()
            .ok_or("a node was asked twice for its copies")?;
        Ok(timeout(BOUND, copies)
            .await
            .map_err(|_| "a node does not say what it holds")??)
    }
}

/// Takes down what a node says.
async fn listen(
    index: u8,
    mut lines: Lines<BufReader<ChildStdout>>,
    told: Shared,
    stops: watch::Sender<bool>,
    copied: oneshot::Sender<Copies>,
) {
    let (mut copies, mut copied) = (Vec::new(), Some(copied));
    while let Ok(Some(line)) = lines.next_line().await {
        match Line::parse(&line, index) {
            Some(Line::Read(read)) => lock(&told).history.reads.push(read),
            Some(Line::Write(write)) => lock(&told).history.writes.push(write),
            Some(Line::Missed) => lock(&told).misses += 1,
            Some(Line::ReadFailed(error)) => lock(&told)
                .failed_reads
                .push(format!("node {index}: {error}")),
            Some(Line::WriteFailed(error)) => {
                *lock(&told).failed_writes.entry(error).or_default() += 1
            }
            Some(Line::Stopped) => drop(stops.send_replace(true)),
            Some(Line::Copy(key, version)) => copies.push((key, version)),
            Some(Line::Copied) => {
                if let Some(copied) = copied.take() {
                    // The receiver waits, or the run is over.
                    let _ = copied.send(std::mem::take(&mut copies));
                }
            }
            Some(Line::Ready) => {}
            None => lock(&told)
                .failed_reads
                .push(format!("node {index} said: {line}")),
        }
    }
}

/// A program that knows nothing of larder: it writes the database, then Redis, and goes on only
/// when Redis has it.
struct Foreign {
    server: String,
    database: Arc<Database>,
    told: Shared,
    quiet: Arc<tokio::sync::Mutex<()>>,
}

impl Foreign {
    async fn write_on(
        self,
        mut random: fastrand::Rng,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Problem> {
        while !*stop.borrow() {
            sleep(Duration::from_millis(random.u64(5..30))).await;
            let _quiet = self.quiet.lock().await;
            let namespace = random.choice(Namespace::ALL).unwrap_or(Namespace::North);
            let key = Key::pick(namespace, PolicyName::Foreign, &mut random);
            let version = self.database.write(key);
            let value = serde_json::to_string(&Versioned { key, version })?;
            while self.set(key, &value).await.is_err() {
                sleep(Duration::from_millis(5)).await;
            }
            let returned = now();
            let write = Write {
                node: None,
                key,
                version,
                returned,
                told: Some(returned),
            };
            lock(&self.told).history.writes.push(write);
        }
        Ok(())
    }

    async fn set(&self, key: Key, value: &str) -> std::io::Result<()> {
        let mut client = larder_testkit::Client::connect(&self.server, None).await?;
        match client.command(&["SET", &key.to_string(), value]).await? {
            Reply::Status(_) => Ok(()),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        }
    }
}

impl Outcome {
    /// Whether the promise was kept.
    pub fn is_good(&self) -> bool {
        self.verdict.violations.is_empty()
            && self.unequal.is_empty()
            && self.failed_reads.is_empty()
    }

    /// How often each kind of fault was on.
    pub fn faults(&self) -> BTreeMap<FaultKind, usize> {
        let mut faults = BTreeMap::new();
        for Fault { kind, .. } in &self.history.faults {
            *faults.entry(*kind).or_default() += 1;
        }
        faults
    }

    /// The staleness of reads in other processes, in milliseconds: of calm times, or of those with
    /// a fault.
    pub fn staleness(&self, faulty: bool) -> Staleness {
        let stale = self
            .verdict
            .stale
            .iter()
            .filter(|stale| stale.faulty == faulty);
        let mut ages: Vec<u64> = stale.map(|stale| stale.age).collect();
        ages.sort_unstable();
        let at = |percent: usize| {
            let rank = (ages.len() * percent).div_ceil(100);
            ages.get(rank.saturating_sub(1))
                .map_or(0.0, |age| *age as f64 / 1e6)
        };
        Staleness {
            reads: ages.len(),
            median: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

/// How old what was served was, in milliseconds, over the reads that were given an old value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Staleness {
    /// How many these were.
    pub reads: usize,
    /// Half of them were at most so old.
    pub median: f64,
    /// Of a hundred, 99 were.
    pub p99: f64,
    /// All were.
    pub max: f64,
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reads,
            median,
            p99,
            max,
        } = self;
        write!(
            f,
            "{reads} reads, median {median:.3} ms, p99 {p99:.3} ms, maximum {max:.3} ms"
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History {
            reads,
            writes,
            faults,
            ..
        } = &self.history;
        let late = writes.iter().filter(|write| {
            write
                .told
                .is_none_or(|told| told > write.returned + 10_000_000)
        });
        writeln!(f, "seed {}", self.seed)?;
        writeln!(
            f,
            "{} reads checked, and {} that found nothing",
            reads.len(),
            self.misses
        )?;
        writeln!(
            f,
            "{} writes, {} of them told to the others only later",
            writes.len(),
            late.count()
        )?;
        for (error, many) in &self.failed_writes {
            writeln!(f, "  {many} writes failed: {error}")?;
        }
        writeln!(f, "{} faults", faults.len())?;
        for (kind, many) in self.faults() {
            writeln!(f, "  {many} × {}", kind.name())?;
        }
        writeln!(
            f,
            "stale in other processes, without a fault: {}",
            self.staleness(false)
        )?;
        writeln!(
            f,
            "stale in other processes, with a fault:    {}",
            self.staleness(true)
        )?;
        writeln!(f, "{} reads failed", self.failed_reads.len())?;
        for failed in self.failed_reads.iter().take(20) {
            writeln!(f, "  {failed}")?;
        }
        writeln!(
            f,
            "{} copies differ from the database after {HEALED:?}",
            self.unequal.len()
        )?;
        for unequal in self.unequal.iter().take(20) {
            writeln!(f, "  {unequal}")?;
        }
        writeln!(f, "{} violations", self.verdict.violations.len())?;
        let mut told = BTreeSet::new();
        for violation in &self.verdict.violations {
            // One story is told once.
            if told.len() < 20
                && told.insert((
                    violation.read.node,
                    violation.read.key,
                    violation.read.version,
                ))
            {
                writeln!(f, "  {violation}")?;
            }
        }
        Ok(())
    }
}
