use std::{io, process::ExitCode};

use tokio::runtime::{Builder, Runtime};

use crate::{
    Entrant, Job, Line, Problem, Subject,
    job::say,
    measure::{allocations, fanout, instructions, l1, l2, memory, ratio, storm, write},
    question::Kind,
};

/// A subject by its name.
#[derive(Debug)]
pub struct Contender {
    name: &'static str,
    levels: &'static str,
    run: fn(&Job) -> Result<Vec<Line>, Problem>,
}

impl Contender {
    /// Gives a subject its name in the tables, and says which levels it has.
    pub const fn of<S: Subject>(name: &'static str, levels: &'static str) -> Self {
        Self {
            name,
            levels,
            run: measure::<S>,
        }
    }
}

/// The main function of a program that brings contenders. With `list` it names them; otherwise its
/// only argument is the job that it does.
pub fn run(contenders: &[Contender]) -> ExitCode {
    let arg = std::env::args().nth(1).unwrap_or_default();
    let done = if arg == "list" {
        list(contenders)
    } else {
        work(contenders, &arg)
    };
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
        say(&Entrant {
            name: (*name).to_owned(),
            levels: (*levels).to_owned(),
        })?;
    }
    Ok(())
}

fn work(contenders: &[Contender], arg: &str) -> Result<(), Problem> {
    let job: Job = serde_json::from_str(arg)?;
    let contender = contenders
        .iter()
        .find(|contender| contender.name == job.subject);
    let contender = contender.ok_or_else(|| format!("there is no contender {}", job.subject))?;
    match (contender.run)(&job) {
        Ok(lines) => lines.iter().try_for_each(say),
        // For every cell: the subject cannot do it, or failed.
        Err(problem) => say(&Line {
            cell: "*".to_owned(),
            answer: problem.into(),
        }),
    }
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

/// A runtime on this thread alone, for counts by thread.
fn one_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
