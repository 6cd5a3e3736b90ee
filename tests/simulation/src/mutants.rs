//! Broken copies of the code, which the simulation has to find.

use std::{path::Path, process::Command, time::Duration};

use larder_chaos::{
    Problem,
    mutants::{self, Mutant, Search},
};

/// How long a mutant is looked for, in seconds.
const PATIENCE: &str = "60";

/// The crates that the simulation runs.
const ENGINE: [&str; 3] = [
    "crates/larder/",
    "crates/larder-core/",
    "crates/larder-lock/",
];

/// Mutants of the history checker that are in the engine, and those of the simulation.
///
/// # Errors
/// If a list cannot be read.
pub fn all() -> Result<Vec<Mutant>, Problem> {
    let mut all = mutants::all()?;
    let is_in_engine = |mutant: &Mutant| ENGINE.iter().any(|path| mutant.file.starts_with(path));
    all.retain(is_in_engine);
    all.extend(mutants::listed("tests/simulation/mutants.toml")?);
    Ok(all)
}

/// Looks for these mutants, or for all of them, see [`mutants::hunt`].
///
/// # Errors
/// As for [`mutants::hunt`].
pub fn find(names: &[&str]) -> Result<bool, Problem> {
    mutants::hunt(all()?, names, "simulate", &search)
}

/// Runs a program until it finds a breach. Returns the time that it took, and the breach.
fn search(program: &Path, _mutant: &Mutant) -> Result<Search, Problem> {
    let run = Command::new(program)
        .args(["--seconds", PATIENCE, "--from", "1"])
        .output()?;
    let said = String::from_utf8_lossy(&run.stdout);
    match run.status.code() {
        Some(0) => Ok(None),
        Some(1) => {
            // "12 histories with 1728 calls in 0.1 s, …"
            let mut words = said.lines().nth(1).unwrap_or_default().split(' ');
            let histories = words.next().unwrap_or_default();
            let took = words.nth(4).and_then(|seconds| seconds.parse().ok());
            let took = Duration::try_from_secs_f64(took.unwrap_or_default())?;
            let breach = said.lines().find(|line| line.starts_with("  "));
            let breach = breach.unwrap_or_default().trim();
            Ok(Some((took, format!("{histories} histories: {breach}"))))
        }
        _ => {
            let complaint = String::from_utf8_lossy(&run.stderr);
            Err(format!("the run did not work out: {complaint}{said}").into())
        }
    }
}
