//! Runs processes and faults, checks every read, and writes a report.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use larder_chaos::{
    FaultKind, Problem, Rounds, Settings, Topology, html, meter, mutants, node, run,
};
use tokio::time::Instant;

const HELP: &str = "\
usage: chaos [options]
       chaos --failovers N --kind KIND [--on-data-loss WHAT] [--watch-seconds S] [--seed S]
           measures N losses of data under load, and loads for S seconds after each, by default 2; KIND is sentinel,
           cluster, replica, snapshot or aof
       chaos --mutants [NAME...]
           builds each mutant of tests/chaos/mutants.toml, and measures how long the checker takes to find the mutant

  --minutes N      how long; default 1
  --seed S         the random choices of an earlier run; default: new ones
  --topology NAME  single, cluster or sentinel; default single
  --faults NAMES   some of the topology's faults, such as cut,eviction; default all
  --pause-ms N     the least time between two faults; default 1500
  --on-data-loss   redo, clear or trust; default redo
  --until-found    ends when a read breaks the promise
  --report FILE    where the report goes; default target/chaos/report.html";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["node", config] => match serde_json::from_str(config) {
            Ok(config) => node::run(config).await.map(|()| true),
            Err(_) => Err(HELP.into()),
        },
        ["--mutants", names @ ..] => mutants::find(names),
        ["--failovers", number, "--kind", kind, rest @ ..] => fail_over(number, kind, rest).await,
        ["--help" | "-h" | "help"] => {
            println!("{HELP}");
            Ok(true)
        }
        options => conduct(options).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            let mut cause = problem.source();
            while let Some(next) = cause {
                eprintln!("  because {next}");
                cause = next.source();
            }
            ExitCode::from(2)
        }
    }
}

async fn conduct(options: &[&str]) -> Result<bool, Problem> {
    let mut settings = Settings {
        program: std::env::current_exe()?,
        length: Duration::from_secs(60),
        seed: fastrand::u64(..),
        pause: Duration::from_millis(1_500),
        topology: Topology::Single,
        faults: Vec::new(),
        on_data_loss: "redo".to_owned(),
        stops_early: false,
        progress: ProgressBar::hidden(),
    };
    let mut report = PathBuf::from("target/chaos/report.html");
    let mut words = options.iter().copied();
    while let Some(option) = words.next() {
        let mut value = || words.next().ok_or(HELP);
        match option {
            "--minutes" => {
                let minutes: f64 = value()?.parse().map_err(|_| HELP)?;
                settings.length = Duration::try_from_secs_f64(60.0 * minutes).map_err(|_| HELP)?;
            }
            "--seed" => settings.seed = value()?.parse().map_err(|_| HELP)?,
            "--pause-ms" => {
                settings.pause = Duration::from_millis(value()?.parse().map_err(|_| HELP)?);
            }
            "--topology" => settings.topology = Topology::named(value()?).ok_or(HELP)?,
            "--on-data-loss" => settings.on_data_loss = choice(value()?)?,
            "--faults" => {
                let named = value()?.split(',').map(FaultKind::named);
                settings.faults = named.collect::<Option<_>>().ok_or(HELP)?;
            }
            "--until-found" => settings.stops_early = true,
            "--report" => report = PathBuf::from(value()?),
            _ => return Err(HELP.into()),
        }
    }
    let can_have = settings.topology.faults();
    if settings.faults.is_empty() {
        settings.faults.clone_from(&can_have);
    }
    if !settings.faults.iter().all(|fault| can_have.contains(fault)) {
        return Err(HELP.into());
    }
    let style = ProgressStyle::with_template("{bar:40} {elapsed} of {len} s, {msg}")?;
    settings.progress = ProgressBar::new(settings.length.as_secs()).with_style(style);
    println!("seed {}", settings.seed);
    let began = Instant::now();
    let outcome = run(&settings).await?;
    settings.progress.finish_and_clear();
    print!("{outcome}");
    if !outcome.is_good() {
        println!("found after {:.1} s", began.elapsed().as_secs_f64());
    }
    if let Some(folder) = report.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&report, html(&outcome))?;
    println!("report: {}", report.display());
    Ok(outcome.is_good())
}

/// The choice of what to do after a loss of data, if there is one of this name.
fn choice(name: &str) -> Result<String, Problem> {
    match name {
        "redo" | "clear" | "trust" => Ok(name.to_owned()),
        _ => Err(HELP.into()),
    }
}

async fn fail_over(number: &str, kind: &str, options: &[&str]) -> Result<bool, Problem> {
    let number = number.parse().map_err(|_| HELP)?;
    let (topology, fault) = Rounds::kind(kind).ok_or(HELP)?;
    let mut rounds = Rounds {
        program: std::env::current_exe()?,
        topology,
        fault,
        number,
        watched: Duration::ZERO,
        on_data_loss: "redo".to_owned(),
        seed: fastrand::u64(..),
        progress: ProgressBar::new(number),
    };
    for option in options.chunks(2) {
        match option {
            ["--on-data-loss", what] => rounds.on_data_loss = choice(what)?,
            ["--watch-seconds", seconds] => {
                rounds.watched = Duration::from_secs(seconds.parse().map_err(|_| HELP)?);
            }
            ["--seed", seed] => rounds.seed = seed.parse().map_err(|_| HELP)?,
            _ => return Err(HELP.into()),
        }
    }
    println!("{kind}, {}, seed {}", rounds.on_data_loss, rounds.seed);
    let metered = meter(&rounds).await?;
    rounds.progress.finish_and_clear();
    print!("{metered}");
    Ok(metered.is_good())
}
