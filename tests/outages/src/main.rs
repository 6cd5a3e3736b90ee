//! `outages`: runs every cell and writes the table. `--steady` and `--memory`: one large outage.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use larder_outages::{Cell, Problem, Settings, markdown, memory, run, steady};

const HELP: &str = "\
usage: outages [--only TEXT] [--at-once N] [--report FILE]
       outages --steady [--seconds N]
       outages --memory [--minutes N]

  --only TEXT    the cells with this text in their names, without a report
  --at-once N    how many cells at a time; default 9
  --report FILE  where the table goes; default docs/outages.md
  --steady       reads at full speed, with Redis gone for the second of three parts
  --seconds N    how long all three are; default 60
  --memory       a million keys are written while Redis is out of reach
  --minutes N    how long that lasts; default 10";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--help" | "-h" | "help"] => {
            println!("{HELP}");
            Ok(true)
        }
        ["--steady", options @ ..] => in_runtime(None, steadily(options)),
        ["--memory", options @ ..] => in_runtime(None, remember(options)),
        // More threads than processors: some wait for servers to start.
        options => in_runtime(Some(4), product(options)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(
    threads: Option<usize>,
    run: impl Future<Output = Result<bool, Problem>>,
) -> Result<bool, Problem> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads);
    }
    runtime.enable_all().build()?.block_on(run)
}

fn progress(len: u64, template: &str) -> Result<ProgressBar, Problem> {
    let progress = ProgressBar::new(len);
    progress.set_style(ProgressStyle::with_template(template)?);
    Ok(progress)
}

async fn steadily(options: &[&str]) -> Result<bool, Problem> {
    let seconds: u32 = match options {
        [] => 60,
        ["--seconds", number] => number.parse().map_err(|_| HELP)?,
        _ => return Err(HELP.into()),
    };
    let part = (seconds / 3).max(1);
    let progress = progress(u64::from(3 * part), "{bar:40} {pos} of {len} s")?;
    let outcome = steady::run(&steady::Settings {
        part,
        progress: progress.clone(),
    })
    .await?;
    progress.finish_and_clear();
    print!("{outcome}");
    Ok(said(outcome.is_good()))
}

async fn remember(options: &[&str]) -> Result<bool, Problem> {
    let minutes: f64 = match options {
        [] => 10.0,
        ["--minutes", number] => number.parse().map_err(|_| HELP)?,
        _ => return Err(HELP.into()),
    };
    let length = Duration::try_from_secs_f64(60.0 * minutes).map_err(|_| HELP)?;
    let progress = progress(1_000_000, "{bar:40} {elapsed}, {pos} of {len} keys")?;
    let outcome = memory::run(&memory::Settings {
        length,
        progress: progress.clone(),
    })
    .await?;
    progress.finish_and_clear();
    print!("{outcome}");
    Ok(said(outcome.is_good()))
}

fn said(is_good: bool) -> bool {
    println!("{}", if is_good { "good" } else { "not good" });
    is_good
}

async fn product(options: &[&str]) -> Result<bool, Problem> {
    let (mut cells, mut at_once, mut report) =
        (Cell::all(), 9, Some(PathBuf::from("docs/outages.md")));
    for option in options.chunks(2) {
        match option {
            ["--only", text] => {
                cells.retain(|cell| cell.to_string().contains(text));
                report = None;
            }
            ["--at-once", number] => at_once = number.parse().map_err(|_| HELP)?,
            ["--report", file] => report = Some(PathBuf::from(file)),
            _ => return Err(HELP.into()),
        }
    }
    let many = u64::try_from(cells.len())?;
    let progress = progress(many, "{bar:40} {elapsed}, {pos} of {len} cells, {msg}")?;
    let outcome = run(&Settings {
        cells,
        at_once,
        progress: progress.clone(),
    })
    .await?;
    progress.finish_and_clear();
    let text = markdown(&outcome);
    match report {
        Some(file) => {
            std::fs::write(&file, text)?;
            println!("report: {}", file.display());
        }
        None => println!("{text}"),
    }
    for broken in outcome.broken() {
        println!("{broken}");
    }
    println!(
        "{}",
        if outcome.is_good() {
            "every cell kept every rule"
        } else {
            "rules were broken"
        }
    );
    Ok(outcome.is_good())
}
