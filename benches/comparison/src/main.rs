//! `comparison`: asks the programs that bring the contenders, and writes the report.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{fs, path::PathBuf, process::ExitCode};

use indicatif::{ProgressBar, ProgressStyle};
use larder_comparison::{
    Problem,
    conductor::{self, Outcome, Settings},
    report::{self, Machine},
};

const HELP: &str = "\
usage: comparison --program FILE … [--quick] [--only TEXT] [--report FILE]
       comparison --render FILE [--report FILE]

  --program FILE  a program that brings contenders
  --quick         one short round of everything
  --only TEXT     the questions with this text in their ids, and the report into target/benchmarks.md
  --report FILE   where the report goes; default docs/benchmarks.md, its charts beside it
  --render FILE   writes the report anew from what an earlier run has left in target/benchmarks.json";

/// Where `cargo xtask bench` has criterion leave its estimates.
const CRITERION: &str = "target/benchmarks";

const RESULTS: &str = "target/benchmarks.json";

fn main() -> ExitCode {
    match compare(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn compare(mut args: impl Iterator<Item = String>) -> Result<(), Problem> {
    let progress = ProgressBar::no_length();
    progress.set_style(ProgressStyle::with_template(
        "{bar:40} {elapsed}, {pos} of {len}, {msg}",
    )?);
    let mut settings = Settings {
        programs: Vec::new(),
        quick: false,
        only: None,
        progress: progress.clone(),
    };
    let (mut file, mut rendered) = (None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => settings.quick = true,
            "--program" => settings.programs.push(args.next().ok_or(HELP)?.into()),
            "--only" => settings.only = Some(args.next().ok_or(HELP)?),
            "--report" => file = Some(PathBuf::from(args.next().ok_or(HELP)?)),
            "--render" => rendered = Some(args.next().ok_or(HELP)?),
            _ => return Err(HELP.into()),
        }
    }
    let usual = if settings.only.is_some() {
        "target/benchmarks.md"
    } else {
        "docs/benchmarks.md"
    };
    let file = file.unwrap_or_else(|| usual.into());
    let outcome: Outcome = match rendered {
        Some(results) => serde_json::from_slice(&fs::read(results)?)?,
        None => {
            let runtime = tokio::runtime::Runtime::new()?;
            let outcome = runtime.block_on(conductor::run(&settings))?;
            fs::write(RESULTS, serde_json::to_vec(&outcome)?)?;
            outcome
        }
    };
    progress.finish_and_clear();
    report::write(&outcome, &Machine::ask(), CRITERION.as_ref(), &file)?;
    println!("report: {}", file.display());
    Ok(())
}
