use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use larder::{Error, StoreError};

use crate::{
    cell::{Cell, DatabaseState},
    limits::GRACE,
};

const TIMED_OUT: &str = "LoadTimedOut";

/// The outcome of a cell.
#[derive(Clone, Debug)]
pub struct CellOutcome {
    /// The cell.
    pub cell: Cell,
    /// The number of reads that returned, with a value or an error.
    pub reads: usize,
    /// The number of writes and invalidations that returned.
    pub writes: usize,
    /// The longest time that a reader waited, and the limit.
    pub longest_read: (Duration, Duration),
    /// The longest time that a writer or invalidator waited, and the limit.
    pub longest_write: (Duration, Duration),
    /// The number of failed reads, by kind of error.
    pub read_errors: BTreeMap<&'static str, usize>,
    /// The number of failed writes and invalidations, by kind of error.
    pub write_errors: BTreeMap<&'static str, usize>,
    /// The number of loads that began.
    pub loads: usize,
    /// The largest number of one key's loads at a time in one process.
    pub at_once: usize,
    /// The number of reads that returned a value after its `ttl`.
    pub stale: usize,
    /// The number of callers' tasks that ended by a panic.
    pub panics: usize,
    /// Reads that returned an older value than that of an invalidation or write which had already
    /// returned in their process.
    pub lost: Vec<String>,
    /// Copies that still differed from the database at the end of the bound.
    pub unequal: Vec<String>,
    /// The time after the end of the faults until all copies were equal.
    pub equal_after: Option<Duration>,
    /// The largest delay of the machine.
    pub lag: Duration,
    /// The number of runs. A cell runs again if the machine was so late that it may have broken a
    /// rule of time by itself.
    pub runs: usize,
}

/// 40 ms: a machine that is later may have broken a rule of time by itself.
const LATE: Duration = Duration::from_millis(40);

impl CellOutcome {
    /// The broken rules, each with its details.
    pub fn broken(&self) -> Vec<String> {
        let mut broken = self.late();
        broken.extend(self.wrong());
        broken
    }

    /// Whether only rules of time were broken, and the machine may have broken them.
    pub(crate) fn is_inconclusive(&self) -> bool {
        self.lag > LATE && self.wrong().is_empty() && !self.late().is_empty()
    }

    /// The rules of time that were broken.
    fn late(&self) -> Vec<String> {
        let mut late = Vec::new();
        let lag = self.lag;
        for (call, (longest, limit)) in [("read", self.longest_read), ("write", self.longest_write)]
        {
            if longest > limit + GRACE {
                late.push(format!(
                    "a {call} took {longest:.2?}, more than {limit:?} (the machine was late by {lag:.0?})"
                ));
            }
        }
        if self.stale > 0 && !self.cell.stale_for {
            late.push(format!("{} values were served after their end", self.stale));
        }
        if let Some(many) = self
            .read_errors
            .get(TIMED_OUT)
            .filter(|_| self.excused() != TIMED_OUT)
        {
            late.push(format!(
                "{many} loads timed out (the machine was late by {lag:.0?})"
            ));
        }
        late
    }

    /// The other rules that were broken.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let first =
            |all: &[String]| format!("{}, such as: {}", all.len(), all.first().map_or("", |s| s));
        let panicked: usize = [&self.read_errors, &self.write_errors]
            .iter()
            .filter_map(|all| all.get("Panicked"))
            .sum();
        if self.panics + panicked > 0 {
            wrong.push(format!("{} panics", self.panics + panicked));
        }
        // Two: a load that an invalidation has outdated, and beside it a current one.
        if self.at_once > 2 {
            wrong.push(format!(
                "{} loads of a key at a time in a process",
                self.at_once
            ));
        }
        if !self.lost.is_empty() {
            wrong.push(format!("invalidations lost: {}", first(&self.lost)));
        }
        if self.equal_after.is_none() {
            wrong.push(format!(
                "copies differ after the bound: {}",
                first(&self.unequal)
            ));
        }
        for (error, many) in &self.read_errors {
            if *error != self.excused() && *error != TIMED_OUT {
                wrong.push(format!("{many} reads failed with {error}"));
            }
        }
        wrong
    }

    /// The error with which reads may fail. Only the database makes them fail, Redis never does.
    fn excused(&self) -> &'static str {
        match self.cell.database {
            DatabaseState::Fast | DatabaseState::Slow => "",
            DatabaseState::Hanging => TIMED_OUT,
            DatabaseState::Failing => "Load",
        }
    }
}

/// The reports of a cell's callers.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) reads: Calls,
    pub(crate) writes: Calls,
    pub(crate) stale: usize,
    pub(crate) lost: Vec<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) returned: usize,
    pub(crate) longest: Duration,
    pub(crate) errors: BTreeMap<&'static str, usize>,
}

impl Calls {
    pub(crate) fn note<T>(&mut self, took: Duration, outcome: &Result<T, Error>) {
        self.returned += 1;
        self.longest = self.longest.max(took);
        if let Err(error) = outcome {
            *self.errors.entry(kind(error)).or_default() += 1;
        }
    }
}

impl Tally {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of an error's kind.
pub(crate) fn kind(error: &Error) -> &'static str {
    match error {
        Error::Load { .. } => "Load",
        Error::Panicked { .. } => "Panicked",
        Error::LoadTimedOut { .. } => TIMED_OUT,
        Error::TooManyLoads { .. } => "TooManyLoads",
        Error::Aborted { .. } => "Aborted",
        Error::Write { .. } => "Write",
        Error::WriteBusy { .. } => "WriteBusy",
        Error::NotInvalidated { .. } => "NotInvalidated",
        Error::Store {
            source: StoreError::TooManyUnsent { .. },
            ..
        } => "TooManyUnsent",
        Error::Store {
            source: StoreError::Refused { .. },
            ..
        } => "Refused",
        Error::Store {
            source: StoreError::Unauthorized { .. },
            ..
        } => "Unauthorized",
        Error::Store {
            source: StoreError::Unreachable { .. },
            ..
        } => "Unreachable",
        Error::Store {
            source: StoreError::TimedOut { .. },
            ..
        } => "TimedOut",
        _ => "another",
    }
}
