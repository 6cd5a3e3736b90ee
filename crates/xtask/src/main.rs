//! The project's chores: `cargo xtask test`, `check`, `tour` and more.
//! `cargo xtask help` lists them.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

mod bench;
mod counts;
mod fuzz;
mod packages;
mod rules;
mod server;
mod servers;
mod steps;

use std::process::ExitCode;

use packages::{Installs, REDIS, VALGRIND};
use steps::Steps;

const HELP: &str = "\
usage: cargo xtask <chore> [options]

  tour [--load [--seconds N]] [--no-redis]   shows the library at work, on a private Redis and a real SQLite
  test [options of cargo test]               runs the examples and all tests, on private Redis servers
  servers [options of cargo test]            runs the suite on each of LARDER_SERVERS, by default
                                             redis:6.2 redis:7.0 redis:8 valkey:8 valkey:9
  check                                      format, clippy, docs, licences and unused dependencies
  rules                                      writes docs/rules.md: where each rule is kept, and which tests try it
  counts [FOLDER]                            prints figures about the source, of this checkout or of another one
  chaos [--minutes N] [--topology NAME]      runs processes under faults, checks every read, and writes a report
  chaos --failovers N --kind KIND            loses data N times under load, and measures what that costs
  chaos --mutants [NAME...]                  builds broken copies of the code, and measures how long chaos takes to find them
  simulate [--seconds N] [--seed N]          runs processes under faults on one thread, thousands of histories, each from its seed
  simulate --mutants [NAME...]               measures how long that takes to find broken copies of the engine
  fuzz [--seconds N] | --replay FILE         gives the readers of replies random ones, guided by the code that they reach
  guard [--write]                            counts what an operation costs, and compares; writes benches/guard.toml
  outages                                    breaks the database and Redis in every combination, and writes docs/outages.md
  outages --steady | --memory [--minutes N]  reads while Redis is gone; writes a million keys while it is out of reach
  bench [--quick] [--only TEXT]              compares larder with its peers, and writes docs/benchmarks.md

A chore that needs a redis-server, or the guard's valgrind, installs it if it is missing and the package manager lets it.
servers, and test for redis:6.2, download a server that is not on the PATH and unpack it below the target folder.
Each command is printed before it runs. With --no-install the tour goes on with L1 only, and any other chore fails.
Nothing touches a Redis that is already running.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let chore = args.next().unwrap_or_default();
    let mut options: Vec<String> = args.collect();
    let installs = Installs::from_options(&mut options);
    let done = match chore.as_str() {
        "tour" => tour(&options, installs),
        "test" => test(&options, installs),
        "guard" => guard(&options, installs),
        "check" => check(),
        "servers" => servers::run(&options, installs),
        "rules" => rules::write(),
        "counts" => counts::run(&options),
        "fuzz" => fuzz::run(&options),
        "chaos" => chaos(&options, installs),
        "simulate" => simulate(&options),
        "outages" => outages(&options, installs),
        "bench" => bench::run(&options, installs),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn tour(options: &[String], installs: Installs) -> Result<(), String> {
    if !options.iter().any(|option| option == "--no-redis")
        && let Err(missing) = REDIS.provide(installs)
    {
        println!("{missing}\nThe tour goes on with L1 only.");
    }
    let steps = Steps::new();
    steps.cargo(
        "tour",
        &[
            "run",
            "--quiet",
            "--release",
            "-p",
            "larder",
            "--example",
            "tour",
            "--",
        ],
        options,
    )
}

fn test(options: &[String], installs: Installs) -> Result<(), String> {
    REDIS.provide(installs)?;
    let steps = Steps::new();
    steps.cargo(
        "build",
        &["build", "--workspace", "--bins", "--examples"],
        &[],
    )?;
    let contract = ["run", "--quiet", "-p", "larder", "--example", "contract"];
    steps.cargo("contract without Redis", &contract, &[])?;
    server::with(|url| {
        steps
            .with_env("REDIS_URL", url)
            .cargo("contract with Redis", &contract, &[])
    })?;
    steps.cargo(
        "outbox",
        &["run", "--quiet", "-p", "larder", "--example", "outbox"],
        &[],
    )?;
    steps.cargo("doc tests", &["test", "--workspace", "--doc"], &[])?;
    let guarded = match options.is_empty() {
        true if cfg!(target_os = "linux") => guard(&[], installs),
        true => {
            println!(
                "── what an operation costs: valgrind runs on Linux, so this step is left out"
            );
            Ok(())
        }
        false => Ok(()),
    };
    let on_oldest = match options.is_empty() {
        true => servers::run_on_oldest(installs),
        false => Ok(()),
    };
    // Last, so that the run ends with the runner's own summary.
    let tested = steps.cargo(
        "tests",
        &["test", "--workspace", "--lib", "--bins", "--tests"],
        options,
    );
    guarded.and(on_oldest).and(tested)
}

fn chaos(options: &[String], installs: Installs) -> Result<(), String> {
    REDIS.provide(installs)?;
    Steps::new().cargo(
        "chaos",
        &["run", "--quiet", "--release", "-p", "larder-chaos", "--"],
        options,
    )
}

fn simulate(options: &[String]) -> Result<(), String> {
    Steps::new().cargo(
        "simulate",
        &[
            "run",
            "--quiet",
            "--release",
            "-p",
            "larder-simulation",
            "--",
        ],
        options,
    )
}

fn outages(options: &[String], installs: Installs) -> Result<(), String> {
    REDIS.provide(installs)?;
    Steps::new().cargo(
        "outages",
        &["run", "--quiet", "--release", "-p", "larder-outages", "--"],
        options,
    )
}

fn guard(options: &[String], installs: Installs) -> Result<(), String> {
    REDIS.provide(installs)?;
    VALGRIND.provide(installs)?;
    let guard = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "larder-benches",
        "--bin",
        "guard",
        "--",
    ];
    Steps::new().cargo("what an operation costs", &guard, options)
}

fn check() -> Result<(), String> {
    let steps = Steps::new();
    steps.cargo("format", &["fmt", "--all", "--check"], &[])?;
    let clippy = ["clippy", "--workspace", "--all-features"];
    let strict = [
        "--lib",
        "--bins",
        "--tests",
        "--benches",
        "--",
        "-D",
        "warnings",
    ];
    steps.cargo("clippy", &[clippy.as_slice(), &strict].concat(), &[])?;
    // An example may print, and stop where it cannot go on.
    let lenient = [
        "--examples",
        "--",
        "-D",
        "warnings",
        "-A",
        "clippy::unwrap_used",
        "-A",
        "clippy::print_stdout",
    ];
    steps.cargo(
        "clippy of the examples",
        &[clippy.as_slice(), &lenient].concat(),
        &[],
    )?;
    let doc = ["doc", "--workspace", "--no-deps", "--all-features"];
    steps
        .with_env("RUSTDOCFLAGS", "-D warnings")
        .cargo("docs", &doc, &[])?;
    steps.cargo_if_installed(
        "deny",
        &["deny", "--offline", "check", "bans", "licenses", "sources"],
    )?;
    steps.cargo_if_installed("machete", &["machete"])?;
    println!("all checks passed");
    Ok(())
}
