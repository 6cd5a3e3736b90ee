use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::steps::{ROOT, Steps};

/// A package with a lock file of its own: the flags below build each dependency once more.
const MANIFEST: &str = "tests/fuzz/Cargo.toml";
const PROGRAM: &str = "replies";

const TARGET: &str = "target/fuzz";
/// Inputs, each of which reaches code that the others do not.
const CORPUS: &str = "target/fuzz/corpus";
const FAILURES: &str = "target/fuzz/failures";
const LOG: &str = "target/fuzz/run.log";
const SHOWN_INPUT: &str = "target/fuzz/input.txt";

/// Has every edge of the code counted, and every comparison shown to the fuzzer. These are the
/// flags of cargo-fuzz with `--sanitizer none`, which a stable compiler takes.
const COVERAGE: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Ccodegen-units=1";

/// The time that one input may take: 10 s. Then a reader does not end.
const SLOWEST: &str = "-timeout=10";

const USAGE: &str = "usage: cargo xtask fuzz [--seconds N] | --replay FILE";

/// Builds the fuzzer, and runs it for some time or on one input.
pub(crate) fn run(options: &[String]) -> Result<(), String> {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    match options.as_slice() {
        [] => fuzz(60),
        ["--seconds", seconds] => fuzz(seconds.parse().map_err(|_| USAGE)?),
        ["--replay", input] => replay(input),
        _ => Err(USAGE.to_owned()),
    }
}

/// Builds the fuzzer, and returns a command that runs it in the project's root.
fn build() -> Result<Command, String> {
    let steps = Steps::new();
    // The flags are for the target, so that a program that is run in a build goes without them.
    let host = steps.host()?;
    let words = [
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--manifest-path",
        MANIFEST,
        "--target-dir",
        TARGET,
        "--target",
        &host,
    ];
    steps
        .with_env("RUSTFLAGS", COVERAGE)
        .cargo("build the fuzzer", &words, &[])?;
    let program = format!("{TARGET}/{host}/release/{PROGRAM}");
    let mut fuzzer = Command::new(Path::new(ROOT).join(program));
    fuzzer.current_dir(ROOT).env("RUST_BACKTRACE", "1");
    Ok(fuzzer)
}

/// Shows an input, and runs the readers on it.
fn replay(input: &str) -> Result<(), String> {
    let input = fs::canonicalize(input).map_err(|error| format!("{input}: {error}"))?;
    let mut fuzzer = build()?;
    fuzzer.arg(input);
    println!("── the input");
    // In place of a run, the fuzzer writes the input to this file.
    fuzzer
        .env("RUST_LIBFUZZER_DEBUG_PATH", SHOWN_INPUT)
        .stderr(Stdio::null())
        .status()
        .map_err(not_run)?;
    println!(
        "{}",
        fs::read_to_string(root(SHOWN_INPUT)).map_err(not_run)?
    );
    println!("── the readers");
    let ended = fuzzer
        .env_remove("RUST_LIBFUZZER_DEBUG_PATH")
        .stderr(Stdio::inherit())
        .status();
    match ended.map_err(not_run)?.success() {
        true => Ok(()),
        false => Err("a reader fails with this input".to_owned()),
    }
}

fn fuzz(seconds: u64) -> Result<(), String> {
    let mut fuzzer = build()?;
    for folder in [CORPUS, FAILURES] {
        fs::create_dir_all(root(folder)).map_err(not_run)?;
    }
    println!("── fuzz for {seconds} s; the fuzzer's own words are in {LOG}");
    let mut running = fuzzer
        .arg(CORPUS)
        .arg(format!("-artifact_prefix={FAILURES}/"))
        .arg(format!("-max_total_time={seconds}"))
        .args([SLOWEST, "-print_final_stats=1"])
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_run)?;
    let said = running.stderr.take().map(BufReader::new);
    let mut log = File::create(root(LOG)).map_err(not_run)?;
    let mut report = Report::default();
    for line in said.into_iter().flat_map(BufRead::lines) {
        let line = line.map_err(not_run)?;
        writeln!(log, "{line}").map_err(not_run)?;
        report.read(&line);
    }
    let ended = running.wait().map_err(not_run)?;
    report.print(fs::read_dir(root(CORPUS)).map_or(0, Iterator::count));
    match (ended.success(), &report.input) {
        (true, _) => Ok(()),
        (false, Some(input)) => Err(format!(
            "{}\n\na reader fails with the input in {input}; to show both again:\n  \
             cargo xtask fuzz --replay {input}",
            report.failure.join("\n")
        )),
        (false, None) => Err(format!("the fuzzer failed: see {LOG}")),
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

fn not_run(error: io::Error) -> String {
    format!("the fuzzer cannot be run: {error}")
}

/// The figures of a run, and its failure, as libFuzzer prints them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    executions: u64,
    per_second: u64,
    /// The edges of the code that were reached, and all that are counted.
    covered: u64,
    counters: u64,
    /// The edges, each with how often it was passed.
    features: u64,
    /// The words of the failure, and the file with the input that causes it.
    failure: Vec<String>,
    input: Option<String>,
}

/// The most lines of a failure that are shown, 10. All of them are in the log.
const SHOWN: usize = 10;

/// The line after which a failure's places follow.
const PLACES: &str = "stack backtrace:";

impl Report {
    fn read(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.trim_matches(['(', ')']).parse().ok()
        };
        if line.starts_with("INFO: Loaded") && line.contains("inline 8-bit counters") {
            self.counters = after("modules").unwrap_or_default();
        } else if let Some((_, input)) = line.split_once("Test unit written to ") {
            self.input = Some(input.to_owned());
        } else if line.starts_with("stat::number_of_executed_units:") {
            self.executions = after("stat::number_of_executed_units:").unwrap_or_default();
        } else if line.starts_with("stat::average_exec_per_sec:") {
            self.per_second = after("stat::average_exec_per_sec:").unwrap_or_default();
        } else if let (Some(covered), Some(features)) = (after("cov:"), after("ft:")) {
            (self.covered, self.features) = (covered, features);
        } else if self.failure.len() < SHOWN && self.is_of_failure(line) {
            self.failure.push(line.to_owned());
        }
    }

    /// Whether a line is one of the words of a failure, or a place in the project's own source.
    fn is_of_failure(&self, line: &str) -> bool {
        let is_before_places = || self.failure.iter().all(|line| !line.starts_with(PLACES));
        match self.failure.is_empty() {
            true => line.contains("panicked at") || line.contains("ERROR: libFuzzer"),
            false => is_before_places() || line.trim_start().starts_with("at ./"),
        }
    }

    fn print(&self, inputs: usize) {
        // It says 0 of a run that ended in its first second.
        match self.per_second {
            0 => println!("executions  {}", self.executions),
            rate => println!("executions  {}, {rate} per second", self.executions),
        }
        println!(
            "coverage    {} of {} edges, {} with how often they are passed",
            self.covered, self.counters, self.features
        );
        println!("corpus      {inputs} inputs in {TARGET}/corpus");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: &str) -> Report {
        let mut report = Report::default();
        said.lines().for_each(|line| report.read(line));
        report
    }

    #[test]
    fn figures_are_those_of_the_last_line() {
        let report = read(
            "INFO: Loaded 1 modules   (4321 inline 8-bit counters): 4321 [0x5, 0x6), \n\
             #2\tINITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 40Mb\n\
             #9\tDONE   cov: 20 ft: 31 corp: 4/9b lim: 4 exec/s: 3 rss: 40Mb\n\
             Done 9 runs in 3 second(s)\n\
             stat::number_of_executed_units: 9\n\
             stat::average_exec_per_sec:     3",
        );
        let expected = Report {
            executions: 9,
            per_second: 3,
            covered: 20,
            counters: 4321,
            features: 31,
            ..Report::default()
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn failure_is_shown_with_its_place_and_its_input() {
        let report = read(
            "#9\tNEW    cov: 20 ft: 31 corp: 4/9b\n\
             thread '<unnamed>' (7) panicked at library/core/src/a.rs:1:2:\n\
             attempt to add with overflow\n\
             stack backtrace:\n   0: add\n             at /rustc/core/src/a.rs:1:2\n   \
             1: read\n             at ./crates/b.rs:3:4\n\
             ==7== ERROR: libFuzzer: deadly signal\n\
             artifact_prefix='f/'; Test unit written to f/crash-1\n",
        );
        assert_eq!(report.input.as_deref(), Some("f/crash-1"));
        let expected = [
            "thread '<unnamed>' (7) panicked at library/core/src/a.rs:1:2:",
            "attempt to add with overflow",
            "stack backtrace:",
            "             at ./crates/b.rs:3:4",
        ];
        assert_eq!(report.failure, expected);
    }
}
