use std::{
    io::{self, Write as _},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{Levels, Problem, Setting, question::Kind};

/// A measurement for one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The contender's name.
    pub subject: String,
    /// The kind of the measurement.
    pub kind: Kind,
    /// The part that it is made for; see [`Kind`].
    pub part: u64,
    /// The address of a Redis that holds nothing.
    pub redis: String,
    /// Whether it shall be short rather than exact.
    pub quick: bool,
}

impl Job {
    /// The time for which an operation is repeated.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(if self.quick { 60 } else { 400 })
    }

    pub(crate) fn setting(&self, levels: Levels, capacity: u64) -> Setting {
        Setting {
            levels,
            redis: self.redis.clone(),
            capacity,
            coherent: false,
        }
    }
}

/// The description of a contender by its program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entrant {
    /// Its name in the tables.
    pub name: String,
    /// Its levels, in words.
    pub levels: String,
}

/// Says something to the conductor.
pub(crate) fn say(what: &impl Serialize) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
