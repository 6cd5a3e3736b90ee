//! `chaos [--minutes N] [--seed S] [--report FILE]`: runs processes and faults, checks every read,
//! and writes a report.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{path::PathBuf, process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use larder_chaos::{Namespace, Problem, Settings, html, node, run};

const HELP: &str = "\
usage: chaos [--minutes N] [--seed S] [--report FILE]

  --minutes N    how long; default 1
  --seed S       the random choices of an earlier run; default: new ones
  --report FILE  where the report goes; default target/chaos/report.html";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["node", redis, database, namespace, seed] => {
            match (Namespace::named(namespace), seed.parse()) {
                (Some(namespace), Ok(seed)) => {
                    let (redis, database) = ((*redis).to_owned(), (*database).to_owned());
                    node::run(node::Config {
                        redis,
                        database,
                        namespace,
                        seed,
                    })
                    .await
                    .map(|()| true)
                }
                _ => Err(HELP.into()),
            }
        }
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
            ExitCode::FAILURE
        }
    }
}

async fn conduct(options: &[&str]) -> Result<bool, Problem> {
    let (mut minutes, mut seed) = (1.0, fastrand::u64(..));
    let mut report = PathBuf::from("target/chaos/report.html");
    for option in options.chunks(2) {
        match option {
            ["--minutes", number] => minutes = number.parse().map_err(|_| HELP)?,
            ["--seed", number] => seed = number.parse().map_err(|_| HELP)?,
            ["--report", file] => report = PathBuf::from(file),
            _ => return Err(HELP.into()),
        }
    }
    let length = Duration::try_from_secs_f64(60.0 * minutes).map_err(|_| HELP)?;
    let progress = ProgressBar::new(length.as_secs());
    progress.set_style(ProgressStyle::with_template(
        "{bar:40} {elapsed} of {len} s, {msg}",
    )?);
    let pause = Duration::from_millis(1_500);
    println!("seed {seed}");
    let program = std::env::current_exe()?;
    let outcome = run(&Settings {
        program,
        length,
        seed,
        pause,
        progress: progress.clone(),
    })
    .await?;
    progress.finish_and_clear();
    print!("{outcome}");
    if let Some(folder) = report.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&report, html(&outcome))?;
    println!("report: {}", report.display());
    Ok(outcome.is_good())
}
