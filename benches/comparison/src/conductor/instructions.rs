//! Instructions of a hit, counted by valgrind.

use std::process::Command;

use crate::{
    Answer, Line, Problem, conductor::program::Program, job::Job, measure::instructions::COUNTED,
    question::Kind,
};

pub(super) fn of_a_hit(program: &Program, job: &Job) -> Line {
    let counted = count(
        program,
        &Job {
            kind: Kind::Hits,
            ..job.clone()
        },
    );
    let answer = counted.map_or_else(Answer::from, |all| Answer::Value(all / job.part as f64));
    Line {
        cell: "instructions".to_owned(),
        answer,
    }
}

fn count(program: &Program, job: &Job) -> Result<f64, Problem> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--collect-atstart=no",
    ]);
    valgrind.arg(format!("--toggle-collect={COUNTED}"));
    valgrind
        .arg(program.path())
        .arg(serde_json::to_string(job)?);
    let output = valgrind.output().map_err(|_| "valgrind is not installed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    let (_, number) = collected.ok_or("valgrind counted nothing")?;
    Ok(number.trim().parse()?)
}
