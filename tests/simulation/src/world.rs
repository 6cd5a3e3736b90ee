//! A history, from its seed to its verdict.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_chaos::{Commit, History, Key, PolicyName, Problem, Verdict, Write};
use larder_core::MemoryServer;
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{
    bus::Bus,
    database::Database,
    faults::Faults,
    journal::Journal,
    kinds::Kind,
    names::{full, keys, namespace},
    node::{Copies, Node, Versioned},
    setup::{NODES, Setup},
    time::{begin, clock, end, note, now, wait},
};

/// The outcome of a history.
#[derive(Debug)]
pub struct Outcome {
    /// The seed of all its choices.
    pub seed: u64,
    /// All that was read and written.
    pub history: History,
    /// The verdict on that.
    pub verdict: Verdict,
    /// Calls that failed, and copies that differ from the database when all is quiet.
    pub problems: Vec<String>,
    /// The number of calls of caches.
    pub operations: usize,
    /// Each step of the history, a line for each, if that was asked for.
    pub trace: String,
}

impl Outcome {
    /// Whether the promise was kept.
    pub fn is_good(&self) -> bool {
        self.verdict.violations.is_empty() && self.problems.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: {} calls, {} reads checked, {} writes",
            self.seed,
            self.operations,
            self.history.reads.len(),
            self.history.writes.len()
        )?;
        for violation in &self.verdict.violations {
            writeln!(f, "  {violation}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        Ok(())
    }
}

/// A history that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// So long after the last call, every copy is what the database holds.
const HEALED: Duration = Duration::from_secs(3);

/// Runs the history of a seed.
///
/// # Errors
/// If it does not work out, whatever larder does.
pub fn simulate(seed: u64, traced: bool) -> Result<Outcome, Problem> {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    let told = runtime.block_on(async {
        begin(traced);
        let world = World::start().await?;
        match timeout(PATIENCE, world.run()).await {
            Ok(ended) => ended?,
            Err(_) => world.has_problem(format!("calls have not ended after {PATIENCE:?}")),
        }
        Ok::<_, Problem>(world)
    });
    drop(runtime); // with all tasks, whose last words belong to the trace
    let trace = end();
    let world = told?;
    let history = world.history();
    let entries = std::mem::take(&mut *world.journal.entries());
    Ok(Outcome {
        seed,
        verdict: history.check(),
        history,
        problems: entries.failures,
        operations: entries.operations,
        trace,
    })
}

/// All that takes part in a history.
struct World {
    setup: Arc<Setup>,
    server: MemoryServer,
    bus: Arc<Bus>,
    database: Arc<Database>,
    journal: Arc<Journal>,
    /// The processes, also those that are dead.
    nodes: Mutex<Vec<Arc<Node>>>,
}

impl World {
    async fn start() -> Result<Arc<Self>, Problem> {
        let setup = Arc::new(Setup::choose()?);
        note(|| format!("{setup:?}"));
        let world = Arc::new(Self {
            server: MemoryServer::new(clock()),
            bus: Arc::default(),
            database: Arc::new(Database::new(setup.database)),
            setup,
            journal: Arc::default(),
            nodes: Mutex::default(),
        });
        for _ in 0..NODES {
            let node = world.node().await?;
            world.nodes().push(node);
        }
        Ok(world)
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Arc<Node>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processes that live.
    fn living(&self) -> Vec<Arc<Node>> {
        let living = |node: &&Arc<Node>| !node.is_dead();
        self.nodes().iter().filter(living).cloned().collect()
    }

    /// Starts one more process.
    async fn node(&self) -> Result<Arc<Node>, Problem> {
        let number = u16::try_from(self.nodes().len()).unwrap_or(u16::MAX);
        let (setup, database) = (self.setup.clone(), self.database.clone());
        let l2 = (&self.server, &self.bus);
        let node = Node::start(number, setup, l2, database, self.journal.clone()).await?;
        Ok(Arc::new(node))
    }

    fn has_problem(&self, problem: String) {
        note(|| problem.clone());
        self.journal.entries().failures.push(problem);
    }

    fn history(&self) -> History {
        let entries = self.journal.entries();
        History {
            commits: self.database.all(),
            reads: entries.reads.clone(),
            writes: entries.writes.clone(),
            links: entries.links.clone(),
            deaths: entries.deaths.clone(),
            ..History::default()
        }
    }

    async fn run(self: &Arc<Self>) -> Result<(), Problem> {
        let stop = Arc::new(AtomicBool::new(false));
        let besides = self.begin_besides(&stop);
        self.nodes().iter().for_each(Node::begin);
        self.clients_end().await?;
        note(|| "clients have ended".to_owned());
        stop.store(true, Ordering::Relaxed);
        for beside in besides {
            beside.await?;
        }
        self.clients_end().await?; // of a process that took another one's place meanwhile
        self.compare().await
    }

    /// Waits until the clients of every process have ended, or have died with it.
    async fn clients_end(&self) -> Result<(), Problem> {
        for number in 0.. {
            let Some(node) = self.nodes().get(number).cloned() else {
                break;
            };
            node.clients_end().await?;
        }
        Ok(())
    }

    /// Begins the faults and the foreign program.
    fn begin_besides(self: &Arc<Self>, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
        let nodes = self.nodes().clone();
        let faults = Faults::new(self.setup.clone(), self.server.clone(), nodes);
        let faults = Arc::new(faults);
        let mut besides: Vec<_> = (0..2)
            .map(|_| tokio::spawn(faults.clone().strike(stop.clone())))
            .collect();
        let foreign = Foreign {
            server: self.server.clone(),
            database: self.database.clone(),
            journal: self.journal.clone(),
        };
        for policy in &self.setup.policies {
            if matches!(policy, PolicyName::Foreign | PolicyName::Guest) {
                let writing = foreign.clone().write_on(*policy, stop.clone());
                besides.push(tokio::spawn(writing));
            }
        }
        if self.setup.faults.contains(&Kind::Death) {
            besides.push(tokio::spawn(self.clone().kill_one(stop.clone())));
        }
        besides
    }

    /// Kills a process, and starts another one in its place.
    async fn kill_one(self: Arc<Self>, stop: Arc<AtomicBool>) {
        wait(1..=4 * self.setup.calm).await;
        let living = self.living();
        let Some(node) = fastrand::choice(living).filter(|_| !stop.load(Ordering::Relaxed)) else {
            return;
        };
        node.die();
        wait(1..=150).await;
        match self.node().await {
            Ok(node) => {
                node.begin();
                self.nodes().push(node);
            }
            Err(problem) => self.has_problem(problem.to_string()),
        }
    }

    /// Compares every copy with the database, when all is quiet.
    async fn compare(&self) -> Result<(), Problem> {
        sleep(HEALED).await;
        let living = self.living();
        living.iter().for_each(|node| node.tell());
        let mut all: Vec<(String, Copies)> = Vec::new();
        for node in &living {
            all.push((node.to_string(), node.copies().await?));
        }
        all.push(("L2".to_owned(), self.node().await?.copies().await?));
        let history = self.history();
        for (whose, copies) in all {
            for (key, copy) in copies {
                let (held, Some(copy)) = (self.database.version(key), copy) else {
                    continue;
                };
                if copy != held && !history.excuses(key, copy) {
                    self.has_problem(format!(
                        "{whose} has version {copy} of {key}; the database has {held}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// A program that knows nothing of larder: it writes the database, then L2.
#[derive(Clone)]
struct Foreign {
    server: MemoryServer,
    database: Arc<Database>,
    journal: Arc<Journal>,
}

impl Foreign {
    async fn write_on(self, policy: PolicyName, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            wait(1..=40).await;
            let Some(key) = fastrand::choice(keys(policy).collect::<Vec<Key>>()) else {
                return;
            };
            let asked = now();
            let commit = Commit {
                at: asked,
                asked,
                node: None,
                by_hand: false,
            };
            let version = self.database.commit(key, commit);
            wait(0..=3).await;
            let value = serde_json::to_string(&Versioned { key, version }).unwrap_or_default();
            self.server.write(&full(namespace(), key), value, None);
            let returned = now();
            note(|| format!("foreign program has written version {version} of {key}"));
            self.journal.entries().writes.push(Write {
                node: None,
                key,
                version,
                returned,
                told: Some(returned),
            });
        }
    }
}
