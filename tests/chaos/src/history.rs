use std::fmt;

use crate::{
    faults::Fault,
    journal::{Read, Write},
    keys::{Key, PolicyName},
};

/// All that was read and written, and when.
#[derive(Debug, Default)]
pub struct History {
    /// For each key, when each of its versions was committed in the database; the first is version
    /// 1.
    pub commits: Vec<Vec<u64>>,
    /// The reads that were given a value.
    pub reads: Vec<Read>,
    /// The writes that returned without an error.
    pub writes: Vec<Write>,
    /// The violations, in the order in which they were found.
    pub faults: Vec<Fault>,
}

/// The verdict on a history.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The reads that broke the promise.
    pub violations: Vec<Violation>,
    /// The reads that were given what another process had replaced, and whose push was still under
    /// way.
    pub stale: Vec<Stale>,
}

/// A read that was given an old value from the L1 of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale {
    /// When it asked, in nanoseconds.
    pub at: u64,
    /// How long before that the value had been replaced.
    pub age: u64,
    /// Whether a fault was on, or had just been.
    pub faulty: bool,
}

/// A read that broke the promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The read.
    pub read: Read,
    /// The problem, as a text.
    pub kind: Kind,
    /// The faults that can have to do with it.
    pub faults: Vec<Fault>,
}

/// How a read can break the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was given a version that the database did not have yet.
    FromTheFuture,
    /// It was given what its own process had replaced by then.
    OlderThanOwnWrite {
        /// Since when.
        since: u64,
    },
    /// It was given from L2 what somebody had replaced by then.
    OlderThanL2 {
        /// Since when.
        since: u64,
    },
    /// It was given what another process had replaced so long before that its process must have
    /// known.
    ToldLongAgo {
        /// Since when.
        since: u64,
    },
}

const MILLISECOND: u64 = 1_000_000;
/// A push takes no longer, on a busy machine.
const PUSH: u64 = 1_000 * MILLISECOND;
/// A fault is noticed (a ping and its time-out, or a probe), and what was read before is at the end
/// of its two seconds.
const NOTICED: u64 = 3_000 * MILLISECOND;
/// So long after a fault its consequences are not counted as those of a calm time.
const SETTLED: u64 = 1_000 * MILLISECOND;

impl Kind {
    fn since(self) -> Option<u64> {
        match self {
            Self::FromTheFuture => None,
            Self::OlderThanOwnWrite { since }
            | Self::OlderThanL2 { since }
            | Self::ToldLongAgo { since } => Some(since),
        }
    }
}

impl History {
    /// Checks every read.
    pub fn check(&self) -> Verdict {
        let nodes = self
            .reads
            .iter()
            .map(|read| usize::from(read.node) + 1)
            .max()
            .unwrap_or(0);
        let mut told = Bounds::new(&self.commits);
        let mut own: Vec<Bounds> = (0..nodes).map(|_| Bounds::new(&self.commits)).collect();
        for write in &self.writes {
            if let Some(at) = write.told {
                told.bind(write.key, write.version, at);
            }
            if let Some(own) = write.node.and_then(|node| own.get_mut(usize::from(node))) {
                own.bind(write.key, write.version, write.returned);
            }
        }
        told.settle();
        own.iter_mut().for_each(Bounds::settle);
        let mut verdict = Verdict::default();
        for read in &self.reads {
            let kind = self.judge(
                read,
                &own[usize::from(read.node)],
                &told,
                &mut verdict.stale,
            );
            verdict.violations.extend(kind.map(|kind| {
                let since = kind.since().unwrap_or(read.start);
                let faults = self.faults_between(since, read.start).cloned().collect();
                Violation {
                    read: *read,
                    kind,
                    faults,
                }
            }));
        }
        verdict
    }

    fn judge(
        &self,
        read: &Read,
        own: &Bounds,
        told: &Bounds,
        stale: &mut Vec<Stale>,
    ) -> Option<Kind> {
        let committed = match read.version.checked_sub(1) {
            None => Some(0), // it was never written
            Some(before) => self.commits[read.key.index()].get(before as usize).copied(),
        };
        if committed.is_none_or(|at| at > read.end) {
            return Some(Kind::FromTheFuture);
        }
        let replaced = |bounds: &Bounds| bounds.replaced(read).filter(|since| *since < read.start);
        if let Some(since) = replaced(own) {
            return Some(Kind::OlderThanOwnWrite { since });
        }
        let since = replaced(told)?;
        if read.key.policy() == PolicyName::Shared {
            return Some(Kind::OlderThanL2 { since });
        }
        let age = read.start - since;
        let faults = self.faults_between(since, read.start);
        let faulty = faults.clone().next().is_some();
        stale.push(Stale {
            at: read.start,
            age,
            faulty,
        });
        let bound = if faulty {
            NOTICED + faults.map(|fault| fault.end - fault.start).sum::<u64>()
        } else {
            PUSH
        };
        (age > bound).then_some(Kind::ToldLongAgo { since })
    }

    /// The faults that can have to do with what went on in between.
    fn faults_between(&self, from: u64, to: u64) -> impl Iterator<Item = &Fault> + Clone {
        self.faults
            .iter()
            .filter(move |fault| fault.start <= to && fault.end + SETTLED >= from)
    }
}

/// For each key and version, since when no older one may be read.
struct Bounds(Vec<Vec<u64>>);

impl Bounds {
    fn new(commits: &[Vec<u64>]) -> Self {
        Self(
            commits
                .iter()
                .map(|versions| vec![u64::MAX; versions.len() + 1])
                .collect(),
        )
    }

    fn bind(&mut self, key: Key, version: u32, at: u64) {
        if let Some(bound) = self.0[key.index()].get_mut(version as usize) {
            *bound = at.min(*bound);
        }
    }

    /// Makes the bounds grow: a reader bound to this version is bound to the one before, too.
    fn settle(&mut self) {
        for versions in &mut self.0 {
            for version in (1..versions.len()).rev() {
                versions[version - 1] = versions[version - 1].min(versions[version]);
            }
        }
    }

    /// Since when what was read must no longer be.
    fn replaced(&self, read: &Read) -> Option<u64> {
        self.0[read.key.index()]
            .get(read.version as usize + 1)
            .copied()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Read {
            node,
            key,
            version,
            start,
            ..
        } = self.read;
        write!(f, "node {node} was given version {version} of {key}")?;
        let ms = |from: u64, to: u64| (to as f64 - from as f64) / MILLISECOND as f64;
        let Some(since) = self.kind.since() else {
            return write!(f, ", which the database did not have");
        };
        let whose = match self.kind {
            Kind::OlderThanOwnWrite { .. } => "of its own ",
            Kind::OlderThanL2 { .. } => "(it has no L1) ",
            Kind::ToldLongAgo { .. } | Kind::FromTheFuture => "elsewhere ",
        };
        write!(
            f,
            " {:.3} ms after a newer write {whose}had returned",
            ms(since, start)
        )?;
        for fault in &self.faults {
            write!(
                f,
                "; {:+.0} ms from that write: {fault}",
                ms(since, fault.start)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::FaultKind;

    const ITEM: Key = Key(0);
    const SHARED: Key = Key(24);

    /// Each key was written at 10, 20 and 30 ms.
    fn history(reads: &[Read], writes: &[Write]) -> History {
        let commits = vec![[10, 20, 30].map(|at| at * MILLISECOND).to_vec(); Key::COUNT];
        History {
            commits,
            reads: reads.to_vec(),
            writes: writes.to_vec(),
            faults: Vec::new(),
        }
    }

    fn read(node: u8, key: Key, version: u32, at_ms: u64) -> Read {
        Read {
            node,
            key,
            version,
            start: at_ms * MILLISECOND,
            end: (at_ms + 1) * MILLISECOND,
        }
    }

    fn write(node: u8, key: Key, version: u32, at_ms: u64) -> Write {
        let at = at_ms * MILLISECOND;
        Write {
            node: Some(node),
            key,
            version,
            returned: at,
            told: Some(at),
        }
    }

    fn kinds(history: &History) -> Vec<Kind> {
        history
            .check()
            .violations
            .iter()
            .map(|violation| violation.kind)
            .collect()
    }

    #[test]
    fn newest_and_overlapping_versions_are_good() {
        let reads = [
            read(0, ITEM, 3, 40),
            read(1, SHARED, 3, 40),
            read(0, ITEM, 0, 5),
            read(0, ITEM, 2, 31),
        ];
        let writes = [write(0, ITEM, 3, 35), write(0, SHARED, 3, 35)];
        let verdict = history(&reads, &writes).check();
        assert_eq!((verdict.violations, verdict.stale), (vec![], vec![]));
    }

    #[test]
    fn version_that_did_not_exist_yet_is_found() {
        let far = Read {
            version: 4,
            ..read(0, ITEM, 3, 40)
        };
        assert_eq!(
            kinds(&history(&[read(0, ITEM, 3, 20), far], &[])),
            [Kind::FromTheFuture; 2]
        );
    }

    #[test]
    fn read_older_than_a_write_of_its_own_process_is_found() {
        let since = 35 * MILLISECOND;
        let untold = Write {
            told: None,
            ..write(0, ITEM, 3, 35)
        };
        let reads = [
            read(0, ITEM, 2, 36),
            read(0, ITEM, 0, 99),
            read(1, ITEM, 2, 36),
            read(0, ITEM, 2, 34),
        ];
        assert_eq!(
            kinds(&history(&reads, &[untold])),
            [Kind::OlderThanOwnWrite { since }; 2]
        );
    }

    #[test]
    fn read_of_l2_older_than_any_write_is_found() {
        let since = 35 * MILLISECOND;
        let foreign = Write {
            node: None,
            ..write(0, SHARED, 3, 35)
        };
        let reads = [read(0, SHARED, 2, 36), read(1, SHARED, 1, 36)];
        assert_eq!(
            kinds(&history(&reads, &[foreign])),
            [Kind::OlderThanL2 { since }; 2]
        );
    }

    #[test]
    fn older_version_binds_as_well_as_the_newest() {
        let since = 25 * MILLISECOND;
        let reads = [read(1, SHARED, 1, 26), read(1, SHARED, 2, 26)];
        assert_eq!(
            kinds(&history(&reads, &[write(0, SHARED, 2, 25)])),
            [Kind::OlderThanL2 { since }]
        );
    }

    #[test]
    fn read_of_l1_elsewhere_may_be_stale_for_as_long_as_a_push_takes() {
        let since = 35 * MILLISECOND;
        let stale = history(&[read(1, ITEM, 2, 45)], &[write(0, ITEM, 3, 35)]).check();
        assert_eq!(stale.violations, []);
        assert_eq!(
            stale.stale,
            [Stale {
                at: 45 * MILLISECOND,
                age: 10 * MILLISECOND,
                faulty: false
            }]
        );
        let late = history(&[read(1, ITEM, 2, 1_036)], &[write(0, ITEM, 3, 35)]);
        assert_eq!(kinds(&late), [Kind::ToldLongAgo { since }]);
    }

    #[test]
    fn fault_gives_the_others_time_to_notice_it_and_no_more() {
        let since = 35 * MILLISECOND;
        let fault = Fault {
            kind: FaultKind::Deafness,
            node: Some(1),
            start: 30 * MILLISECOND,
            end: 530 * MILLISECOND,
        };
        let after = |at_ms| {
            let history = history(&[read(1, ITEM, 2, at_ms)], &[write(0, ITEM, 3, 35)]);
            History {
                faults: vec![fault.clone()],
                ..history
            }
        };
        assert_eq!(kinds(&after(3_535)), []);
        assert!(after(3_535).check().stale[0].faulty);
        assert_eq!(kinds(&after(3_536)), [Kind::ToldLongAgo { since }]);
        let own = History {
            writes: vec![write(1, ITEM, 3, 35)],
            ..after(40)
        };
        assert_eq!(kinds(&own), [Kind::OlderThanOwnWrite { since }]);
    }
}
