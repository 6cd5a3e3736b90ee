//! Instructions of a hit, counted by valgrind.

use std::process::Command;

use crate::{Answer, Line, Problem, conductor::program::Program, job::Job, question::Kind};

/// As many hits more in the second run; the rest of both runs is the same.
const FEW: u64 = 2_000;
const MANY: u64 = 22_000;

pub(super) fn of_a_hit(program: &Program, job: &Job) -> Line {
    let counted = || {
        let few = count(program, &Job { kind: Kind::Hits, part: FEW, ..job.clone() })?;
        let many = count(program, &Job { kind: Kind::Hits, part: MANY, ..job.clone() })?;
        Ok::<_, Problem>((many - few) / (MANY - FEW) as f64)
    };
    let answer = counted().map_or_else(Answer::from, Answer::Value);
    Line { cell: "instructions".to_owned(), answer }
}

fn count(program: &Program, job: &Job) -> Result<f64, Problem> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program.path()).arg(serde_json::to_string(job)?);
    let output = valgrind.output().map_err(|_| "valgrind is not installed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.ok_or("valgrind counted nothing")?;
    Ok(number.trim().parse()?)
}
