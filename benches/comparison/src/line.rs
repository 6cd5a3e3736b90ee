use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};

use crate::{Cannot, Problem};

/// The answer of one job for one cell, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The cell of the question; `*` for all of them.
    pub cell: String,
    /// The measurement.
    pub answer: Answer,
}

/// A measurement, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// In the cell's unit.
    Value(f64),
    /// The subject has no way to do it.
    Cannot(String),
    /// It went wrong; the exact error.
    Failed(String),
}

impl Line {
    /// A measured value.
    pub fn value(cell: &str, value: f64) -> Self {
        Self {
            cell: cell.to_owned(),
            answer: Answer::Value(value),
        }
    }
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        let problem = match problem.downcast::<Self>() {
            Ok(answer) => return *answer,
            Err(problem) => problem,
        };
        match problem.downcast_ref::<Cannot>() {
            Some(cannot) => Self::Cannot(cannot.to_string()),
            None => Self::Failed(with_sources(&*problem)),
        }
    }
}

fn with_sources(error: &(dyn Error + 'static)) -> String {
    let (mut said, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        said = format!("{said}: {cause}");
        next = cause.source();
    }
    said
}

/// Lets a process hand on the reason why another one gave no answer.
impl Error for Answer {}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Cannot(what) => write!(f, "cannot: {what}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}
