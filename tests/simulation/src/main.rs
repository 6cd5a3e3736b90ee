//! Runs histories from their seeds, and shows one that broke the promise.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{process::ExitCode, thread::available_parallelism, time::Duration};

use larder_chaos::Problem;
use larder_simulation::{mutants, search, simulate};

const HELP: &str = "\
usage: simulate [--seconds S] [--from N]
           runs the histories of seed N and those that follow, for S seconds; default 60, and any N
       simulate --seed N [--trace]
           runs the history of one seed, and with --trace shows each of its steps
       simulate --mutants [NAME...]
           builds broken copies of the code, and measures how long the simulation takes to find them";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[&str]) -> Result<bool, Problem> {
    match words {
        ["--help" | "-h" | "help"] => {
            println!("{HELP}");
            Ok(true)
        }
        ["--seed", seed, rest @ ..] => {
            let traced = match rest {
                [] => false,
                ["--trace"] => true,
                _ => return Err(HELP.into()),
            };
            let outcome = simulate(seed.parse().map_err(|_| HELP)?, traced)?;
            print!("{}{outcome}", outcome.trace);
            Ok(outcome.is_good())
        }
        ["--mutants", names @ ..] => mutants::find(names),
        options => many(options),
    }
}

fn many(options: &[&str]) -> Result<bool, Problem> {
    let (mut first, mut limit) = (fastrand::u64(..1 << 48), Duration::from_secs(60));
    for option in options.chunks(2) {
        match option {
            ["--from", seed] => first = seed.parse().map_err(|_| HELP)?,
            ["--seconds", seconds] => {
                let seconds = seconds.parse().map_err(|_| HELP)?;
                limit = Duration::try_from_secs_f64(seconds).map_err(|_| HELP)?;
            }
            _ => return Err(HELP.into()),
        }
    }
    println!("from seed {first}");
    let threads = available_parallelism().map_or(1, usize::from);
    let found = search(first, limit, threads)?;
    let seconds = found.took.as_secs_f64();
    println!(
        "{} histories with {} calls in {seconds:.1} s, {:.0} histories in a second",
        found.histories,
        found.operations,
        found.histories as f64 / seconds
    );
    if let Some(broken) = &found.broken {
        print!("{broken}");
        println!(
            "to see its steps: cargo xtask simulate --seed {} --trace",
            broken.seed
        );
    }
    Ok(found.broken.is_none())
}
