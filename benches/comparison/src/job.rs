use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::{
    Levels, Line, Problem, Setting, Subject,
    measure::{allocations, fanout, instructions, l1, l2, memory, ratio, storm, write},
    question::Kind,
};

/// What one process is asked to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The contender's name.
    pub subject: String,
    /// What is measured.
    pub kind: Kind,
    /// For what; see [`Kind`].
    pub part: u64,
    /// The address of a Redis that holds nothing.
    pub redis: String,
    /// Whether it shall be short rather than exact.
    pub quick: bool,
}

impl Job {
    /// How long anything is repeated.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(if self.quick { 60 } else { 400 })
    }

    pub(crate) fn setting(&self, levels: Levels, capacity: u64) -> Setting {
        Setting { levels, redis: self.redis.clone(), capacity, coherent: false }
    }
}

/// A subject by its name.
#[derive(Debug)]
pub struct Contender {
    name: &'static str,
    levels: &'static str,
    run: fn(&Job) -> Result<Vec<Line>, Problem>,
}

/// What a program says of one of its contenders.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entrant {
    /// Its name in the tables.
    pub name: String,
    /// Which levels it has, in words.
    pub levels: String,
}

impl Contender {
    /// Gives a subject its name in the tables, and says which levels it has.
    pub const fn of<S: Subject>(name: &'static str, levels: &'static str) -> Self {
        Self { name, levels, run: measure::<S> }
    }
}

/// The main function of a program that brings contenders: with `list` it names them, else it does the job that is its only
/// argument.
pub fn run(contenders: &[Contender]) -> ExitCode {
    let arg = std::env::args().nth(1).unwrap_or_default();
    let done = if arg == "list" { list(contenders) } else { work(contenders, &arg) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn list(contenders: &[Contender]) -> Result<(), Problem> {
    for Contender { name, levels, .. } in contenders {
        say(&Entrant { name: (*name).to_owned(), levels: (*levels).to_owned() })?;
    }
    Ok(())
}

fn work(contenders: &[Contender], arg: &str) -> Result<(), Problem> {
    let job: Job = serde_json::from_str(arg)?;
    let contender = contenders.iter().find(|contender| contender.name == job.subject);
    let contender = contender.ok_or_else(|| format!("there is no contender {}", job.subject))?;
    match (contender.run)(&job) {
        Ok(lines) => lines.iter().try_for_each(say),
        // Of every cell: what a subject cannot do, or where it failed.
        Err(problem) => say(&Line { cell: "*".to_owned(), answer: problem.into() }),
    }
}

/// Says something to the conductor.
pub(crate) fn say(what: &impl Serialize) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

fn measure<S: Subject>(job: &Job) -> Result<Vec<Line>, Problem> {
    match job.kind {
        Kind::L1 => many_threads()?.block_on(l1::hits::<S>(job)),
        Kind::Growth => many_threads()?.block_on(l1::growth::<S>(job)),
        Kind::L2 => many_threads()?.block_on(l2::hits::<S>(job)),
        Kind::Storm => many_threads()?.block_on(storm::member::<S>(job)),
        Kind::Write => many_threads()?.block_on(write::latency::<S>(job)),
        Kind::Fanout => many_threads()?.block_on(fanout::member::<S>(job)),
        Kind::Memory => memory::of_entries::<S>(&one_thread()?, job),
        Kind::Ratio => one_thread()?.block_on(ratio::ratios::<S>(job)),
        Kind::Allocations => allocations::of_hits::<S>(&one_thread()?, job),
        Kind::Hits => instructions::of_hits::<S>(&one_thread()?, job),
    }
}

fn many_threads() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

/// Where something is counted thread by thread.
fn one_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
