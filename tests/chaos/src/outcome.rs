//! The outcome of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    faults::{Fault, FaultKind},
    history::{History, Verdict},
};

/// So long after the last operation, every copy is what the database holds.
pub(crate) const HEALED: Duration = Duration::from_secs(2);

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The history of the run.
    pub history: History,
    /// The verdict on that history.
    pub verdict: Verdict,
    /// Copies that are not what the database holds, two seconds after the last operation.
    pub unequal: Vec<String>,
    /// Reads that failed, which none should.
    pub failed_reads: Vec<String>,
    /// The errors of failed writes, with the number of each.
    pub failed_writes: BTreeMap<String, usize>,
    /// Reads of the cache alone that found nothing.
    pub misses: usize,
    /// Reads of the database.
    pub loads: usize,
    /// When it began, in nanoseconds.
    pub start: u64,
    /// The seed of the random choices.
    pub seed: u64,
}

impl Outcome {
    /// Whether the promise was kept.
    pub fn is_good(&self) -> bool {
        self.verdict.violations.is_empty()
            && self.unequal.is_empty()
            && self.failed_reads.is_empty()
    }

    /// How often each kind of fault was on.
    pub fn faults(&self) -> BTreeMap<FaultKind, usize> {
        let mut faults = BTreeMap::new();
        for Fault { kind, .. } in &self.history.faults {
            *faults.entry(*kind).or_default() += 1;
        }
        faults
    }

    /// The staleness of reads in other processes, in milliseconds: of calm times, or of those with
    /// a fault.
    pub fn staleness(&self, faulty: bool) -> Staleness {
        let stale = self
            .verdict
            .stale
            .iter()
            .filter(|stale| stale.faulty == faulty);
        let mut ages: Vec<u64> = stale.map(|stale| stale.age).collect();
        ages.sort_unstable();
        let at = |percent: usize| {
            let rank = (ages.len() * percent).div_ceil(100);
            ages.get(rank.saturating_sub(1))
                .map_or(0.0, |age| *age as f64 / 1e6)
        };
        Staleness {
            reads: ages.len(),
            median: at(50),
            p99: at(99),
            max: at(100),
        }
    }
}

/// How old what was served was, in milliseconds, over the reads that were given an old value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Staleness {
    /// How many these were.
    pub reads: usize,
    /// Half of them were at most so old.
    pub median: f64,
    /// Of a hundred, 99 were.
    pub p99: f64,
    /// All were.
    pub max: f64,
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reads,
            median,
            p99,
            max,
        } = self;
        write!(
            f,
            "{reads} reads, median {median:.3} ms, p99 {p99:.3} ms, maximum {max:.3} ms"
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.say_what_was_done(f)?;
        self.say_what_is_wrong(f)
    }
}

impl Outcome {
    fn say_what_was_done(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let History {
            reads,
            writes,
            faults,
            ..
        } = &self.history;
        let late = writes.iter().filter(|write| {
            write
                .told
                .is_none_or(|told| told > write.returned + 10_000_000)
        });
        writeln!(f, "seed {}", self.seed)?;
        writeln!(
            f,
            "{} reads checked, and {} that found nothing; {} loads",
            reads.len(),
            self.misses,
            self.loads
        )?;
        writeln!(
            f,
            "{} writes, {} of them told to the others only later",
            writes.len(),
            late.count()
        )?;
        for (error, many) in &self.failed_writes {
            writeln!(f, "  {many} writes failed: {error}")?;
        }
        writeln!(f, "{} faults", faults.len())?;
        for (kind, many) in self.faults() {
            writeln!(f, "  {many} × {}", kind.name())?;
        }
        writeln!(
            f,
            "stale in other processes, without a fault: {}",
            self.staleness(false)
        )?;
        writeln!(
            f,
            "stale in other processes, with a fault:    {}",
            self.staleness(true)
        )?;
        Ok(())
    }

    fn say_what_is_wrong(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} reads failed", self.failed_reads.len())?;
        for failed in self.failed_reads.iter().take(20) {
            writeln!(f, "  {failed}")?;
        }
        writeln!(
            f,
            "{} copies differ from the database after {HEALED:?}",
            self.unequal.len()
        )?;
        for unequal in self.unequal.iter().take(20) {
            writeln!(f, "  {unequal}")?;
        }
        writeln!(f, "{} violations", self.verdict.violations.len())?;
        let mut told = BTreeSet::new();
        for violation in &self.verdict.violations {
            // One story is told once.
            if told.len() < 20
                && told.insert((
                    violation.read.node,
                    violation.read.key,
                    violation.read.version,
                ))
            {
                writeln!(f, "  {violation}")?;
            }
        }
        Ok(())
    }
}
