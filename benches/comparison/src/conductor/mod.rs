//! Asks every subject every question, in turn.

mod instructions;
mod members;
mod program;

use std::path::PathBuf;

use indicatif::ProgressBar;
use larder_testkit::RedisServer;
use serde::{Deserialize, Serialize};

use crate::{
    Answer, Line, Problem,
    job::{Entrant, Job},
    question::{Kind, Part, Question},
};
use program::Program;

/// The choice of questions and subjects.
#[derive(Debug)]
pub struct Settings {
    /// The programs that bring the contenders.
    pub programs: Vec<PathBuf>,
    /// Short rather than exact.
    pub quick: bool,
    /// Only the questions with this text in their ids.
    pub only: Option<String>,
    /// Shows the progress.
    pub progress: ProgressBar,
}

/// The answers of all subjects.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it was a short run.
    pub quick: bool,
    /// The subjects that were asked, in the order of the tables.
    pub entrants: Vec<Entrant>,
    /// All answers.
    pub given: Vec<Given>,
}

/// One answer of one subject in one round.
#[derive(Debug, Serialize, Deserialize)]
pub struct Given {
    /// The question's id.
    pub question: String,
    /// The part's number.
    pub part: u64,
    /// The subject that answers.
    pub subject: String,
    /// Its answer; for all cells, if the cell is `*`.
    pub line: Line,
}

/// Asks every subject every question.
///
/// # Errors
/// Redis or a program cannot be started. A failure within a job is that job's answer.
pub async fn run(settings: &Settings) -> Result<Outcome, Problem> {
    let server = RedisServer::start().await?;
    let (entrants, owners) = contenders(&settings.programs).await?;
    let asked: Vec<&Question> = Question::ALL
        .iter()
        .filter(|question| {
            settings
                .only
                .as_ref()
                .is_none_or(|only| question.id.contains(only))
        })
        .collect();
    let jobs: usize = asked
        .iter()
        .map(|question| {
            question.parts(settings.quick).count() * question.rounds(settings.quick) as usize
        })
        .sum();
    settings
        .progress
        .set_length((jobs * owners.len()).try_into()?);
    let mut given = Vec::new();
    for question in asked {
        for part in question.parts(settings.quick) {
            for round in 0..question.rounds(settings.quick) {
                // Each round begins with another subject, so that none always comes after the
                // pause.
                let first = round as usize % owners.len();
                for (program, subject) in owners[first..].iter().chain(&owners[..first]) {
                    settings
                        .progress
                        .set_message(format!("{} {}: {subject}", question.id, part.name));
                    server.command(&["FLUSHALL"]).await?;
                    let job = job(question, part, subject, &server, settings.quick);
                    for line in ask(program, question, &job).await {
                        let (question, subject) = (question.id.to_owned(), subject.clone());
                        given.push(Given {
                            question,
                            part: part.number,
                            subject,
                            line,
                        });
                    }
                    settings.progress.inc(1);
                }
            }
        }
    }
    Ok(Outcome {
        quick: settings.quick,
        entrants,
        given,
    })
}

/// Lists the contenders of all programs, and their names beside the programs that bring them.
async fn contenders(
    programs: &[PathBuf],
) -> Result<(Vec<Entrant>, Vec<(Program, String)>), Problem> {
    let (mut entrants, mut owners) = (Vec::new(), Vec::new());
    for path in programs {
        let program = Program::new(path);
        for entrant in program.list().await? {
            owners.push((program.clone(), entrant.name.clone()));
            entrants.push(entrant);
        }
    }
    Ok((entrants, owners))
}

fn job(question: &Question, part: &Part, subject: &str, server: &RedisServer, quick: bool) -> Job {
    Job {
        subject: subject.to_owned(),
        kind: question.kind,
        part: part.number,
        redis: server.url(),
        quick,
    }
}

/// Returns one subject's answers; a failure is an answer too.
async fn ask(program: &Program, question: &Question, job: &Job) -> Vec<Line> {
    let answered = match question.kind {
        Kind::Storm => members::storm(program, job).await,
        Kind::Fanout => members::fanout(program, job).await,
        Kind::Allocations => program.measure(job).await.map(|mut lines| {
            // Where the allocations cannot be counted, there are no hits either.
            if lines.iter().all(|line| line.cell != "*") {
                lines.push(instructions::of_a_hit(program, job));
            }
            lines
        }),
        _ => program.measure(job).await,
    };
    answered.unwrap_or_else(|problem| {
        vec![Line {
            cell: "*".to_owned(),
            answer: Answer::from(problem),
        }]
    })
}
