use std::{
    sync::{
        Arc, Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use indicatif::ProgressBar;
use larder::TtlTable;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, block_in_place},
    time::{Instant, sleep, timeout},
};

use crate::{
    Problem,
    cell::{Cell, DatabaseState},
    copies,
    database::Database,
    faults::{self, PASSWORD},
    limits::{Key, longest_read, longest_write, table},
    machine::Lateness,
    member::Member,
    tally::{CellOutcome, Tally},
};

/// The time that both faults of a cell are on.
pub(crate) const BROKEN: Duration = Duration::from_millis(2_300);
/// The time that the callers go on after the faults.
pub(crate) const AFTERWARDS: Duration = Duration::from_millis(300);
const CALM: Duration = Duration::from_millis(150);
/// The most runs of a cell. A machine that is late in all of them shows in the report.
const TRIES: usize = 3;
/// 20 s: a caller that has not returned by then never will.
const BOUND: Duration = Duration::from_secs(20);

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cells.
    pub cells: Vec<Cell>,
    /// The number of cells at a time. They mostly sleep; too many of them make the machine late.
    pub at_once: usize,
    /// The progress bar.
    pub progress: ProgressBar,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Each cell, in the order of the report.
    pub cells: Vec<CellOutcome>,
    /// Panics anywhere in this process during the run, also in the library's background tasks.
    pub panics: usize,
    /// The number of processors.
    pub processors: usize,
}

impl Outcome {
    /// Whether every cell kept every rule.
    pub fn is_good(&self) -> bool {
        self.panics == 0 && self.broken().is_empty()
    }

    /// The rules that were broken, each with its cell.
    pub fn broken(&self) -> Vec<String> {
        let said = |outcome: &CellOutcome| {
            let cell = outcome.cell;
            outcome
                .broken()
                .into_iter()
                .map(move |broken| format!("{cell}: {broken}"))
        };
        self.cells.iter().flat_map(said).collect()
    }
}

/// Runs cells. Must be called in a multi-threaded tokio runtime.
///
/// # Errors
/// If the run itself failed: no server, or a table that cannot be used.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let before = panics();
    let slots = Arc::new(Semaphore::new(settings.at_once));
    let mut running = JoinSet::new();
    for cell in &settings.cells {
        let (cell, slots, progress) = (*cell, slots.clone(), settings.progress.clone());
        running.spawn(async move {
            let _slot = slots.acquire_owned().await?;
            progress.set_message(cell.to_string());
            let outcome = try_cell(cell)
                .await
                .map_err(|problem| format!("{cell}: {problem}"))?;
            progress.inc(1);
            Ok::<_, Problem>(outcome)
        });
    }
    let (mut cells, mut failed) = (Vec::new(), None);
    while let Some(ended) = running.join_next().await {
        match ended.map_err(Problem::from).flatten() {
            Ok(outcome) => cells.push(outcome),
            Err(problem) => {
                // Wait for cells that are starting a server: they end all the same.
                running.abort_all();
                failed = failed.or(Some(problem));
            }
        }
    }
    if let Some(problem) = failed {
        return Err(problem);
    }
    cells.sort_by_key(|outcome| outcome.cell);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Outcome {
        cells,
        panics: panics() - before,
        processors,
    })
}

/// Runs a cell, and again while the machine may have broken its rules.
async fn try_cell(cell: Cell) -> Result<CellOutcome, Problem> {
    let mut runs = 1;
    loop {
        let outcome = run_cell(cell).await?;
        if runs == TRIES || !outcome.is_inconclusive() {
            return Ok(CellOutcome { runs, ..outcome });
        }
        runs += 1;
    }
}

async fn run_cell(cell: Cell) -> Result<CellOutcome, Problem> {
    let mut server = faults::start()?;
    let table = table(cell.stale_for)?;
    let (database, tally) = (Arc::new(Database::new()), Arc::new(Tally::default()));
    let members = start_members(&server.addr(), &table, &database, &tally).await?;
    let lateness = Lateness::measure();
    let (mut callers, mut random) = (JoinSet::new(), fastrand::Rng::new());
    for member in &members {
        member.call(&mut callers, &mut random);
    }
    sleep(CALM).await;
    database.become_(cell.database);
    faults::begin(cell.redis, &mut server, &members).await?;
    sleep(BROKEN).await;
    faults::end(cell.redis, &mut server, &members).await?;
    database.become_(DatabaseState::Fast);
    let healed = Instant::now();
    sleep(AFTERWARDS).await;
    for member in &members {
        member.stop();
    }
    let panics = ended(callers).await?;
    let lag = lateness.most();
    let equal = copies::equal(healed, &members, &server, &database).await?;
    let (equal_after, unequal) = match equal {
        Ok(after) => (Some(after), Vec::new()),
        Err(unequal) => (None, unequal),
    };
    let policy = table
        .policy(Key::policy_name(0))
        .ok_or("the table has no such policy")?;
    let counts = std::mem::take(&mut *tally.lock());
    let outcome = CellOutcome {
        cell,
        reads: counts.reads.returned,
        writes: counts.writes.returned,
        longest_read: (counts.reads.longest, longest_read(policy)),
        longest_write: (counts.writes.longest, longest_write(policy)),
        read_errors: counts.reads.errors,
        write_errors: counts.writes.errors,
        loads: members.iter().map(|member| member.loads.total()).sum(),
        at_once: members
            .iter()
            .map(|member| member.loads.most())
            .max()
            .unwrap_or(0),
        stale: counts.stale,
        panics,
        lost: counts.lost,
        unequal,
        equal_after,
        lag,
        runs: 1,
    };
    drop(members);
    block_in_place(|| drop(server));
    Ok(outcome)
}

/// Starts the two processes of a cell, and fills their levels.
async fn start_members(
    server: &str,
    table: &TtlTable,
    database: &Arc<Database>,
    tally: &Arc<Tally>,
) -> Result<Vec<Arc<Member>>, Problem> {
    let mut members = Vec::new();
    for index in 0..2 {
        let (table, database, tally) = (table.clone(), database.clone(), tally.clone());
        let member = Member::start(index, server, PASSWORD, table, database, tally).await?;
        members.push(Arc::new(member));
    }
    for member in &members {
        member.warm_up().await?;
    }
    Ok(members)
}

/// Waits for the callers, and returns the number of panics.
async fn ended(mut callers: JoinSet<()>) -> Result<usize, Problem> {
    let mut panics = 0;
    while let Some(caller) = timeout(BOUND, callers.join_next())
        .await
        .map_err(|_| "a caller never returned")?
    {
        panics += usize::from(caller.is_err_and(|error| error.is_panic()));
    }
    Ok(panics)
}

/// The number of panics in this process since the first call.
fn panics() -> usize {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    static COUNTING: Once = Once::new();
    COUNTING.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::AcqRel);
            told(panic);
        }));
    });
    PANICS.load(Ordering::Acquire)
}
