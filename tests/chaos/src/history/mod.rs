//! All that was read and written, and what may have been read.

mod lapses;
#[cfg(test)]
mod tests;
mod violation;

use std::collections::{HashMap, HashSet};

use self::lapses::Lapses;
pub use self::violation::{Kind, Violation};
use crate::{
    database::Commit,
    faults::{Fault, FaultKind},
    journal::{Link, Read, Write},
    keys::Key,
};

/// All that was read and written, and when.
#[derive(Debug, Default)]
pub struct History {
    /// For each key, the writes in the database; the first is version 1.
    pub commits: Vec<Vec<Commit>>,
    /// The reads that were given a value.
    pub reads: Vec<Read>,
    /// The writes that returned without an error.
    pub writes: Vec<Write>,
    /// The faults, in the order of time.
    pub faults: Vec<Fault>,
    /// When each process reached every server.
    pub links: Vec<Link>,
    /// The processes that were killed, and when.
    pub deaths: HashMap<u16, u64>,
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

const MILLISECOND: u64 = 1_000_000;
/// A push takes no longer, on a busy machine.
const PUSH: u64 = 1_000 * MILLISECOND;
/// A fault is noticed (a ping and its time-out, or a probe), and what was read before is at the end
/// of its two seconds.
const NOTICED: u64 = 3_000 * MILLISECOND;
/// So long after a fault its consequences are not counted as those of a calm time: a process is
/// connected again, and what it has loaded or written meanwhile is at the end of its two seconds.
const SETTLED: u64 = NOTICED;

/// A write that took no longer to reach the database met no time-out before, and has its lease.
const PROMPT: u64 = 250 * MILLISECOND;

/// A process that reached every server so long ago at most has not lost one since without a fault,
/// as it does when the machine is so busy that commands time out.
const RECENT: u64 = 100 * MILLISECOND;

/// The processes that are bound by a write, and since when.
type Seen = Vec<(Option<u16>, u64)>;

/// The writes that bind readers, by key and version.
struct Bounds {
    /// For each key and version, the processes whose write others must see, and since when.
    told: Vec<Vec<Seen>>,
    /// For each key and version, the processes that must see their own write, and since when.
    own: Vec<Vec<Seen>>,
    lapses: Lapses,
}

impl History {
    /// Checks every read.
    pub fn check(&self) -> Verdict {
        let bounds = self.bounds();
        let mut verdict = Verdict::default();
        for read in &self.reads {
            let kind = self.judge(read, &bounds, &mut verdict.stale);
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

    /// Whether a copy may differ from the database for good: all that came after it was lost with a
    /// process that is dead, or its invalidation by hand failed, and the caller was told.
    pub fn excuses(&self, key: Key, version: u32) -> bool {
        let lapses = Lapses::new(&self.faults, &self.links);
        let later = &self.commits[key.index()][version as usize..];
        later.iter().zip(version + 1..).all(|(commit, version)| {
            let is_acknowledged = self
                .writes
                .iter()
                .any(|write| (write.node, write.key, write.version) == (commit.node, key, version));
            let has_failed = commit.by_hand && !is_acknowledged;
            let is_lost = |death: &u64| {
                let is_unfinished = !is_acknowledged && !self.has_left_nothing(commit, *death);
                is_unfinished || lapses.lost_for_ever(commit.node)
            };
            let death = commit.node.and_then(|node| self.deaths.get(&node));
            has_failed || death.is_some_and(is_lost)
        })
    }

    /// Whether a process that died after this commit, and before its call returned, has left no
    /// value behind: it had its lease in time, because it had reached every server just before it
    /// asked for that, and nothing went wrong from then on.
    fn has_left_nothing(&self, commit: &Commit, death: u64) -> bool {
        let links = self.links.iter().filter(|link| link.node == commit.node);
        let linked = links.filter(|link| (link.end..link.end + RECENT).contains(&commit.asked));
        let linked = linked.map(|link| link.start).max();
        let concerns = |fault: &&Fault| fault.node.is_none() || fault.node == commit.node;
        let mut faults = self.faults.iter().filter(concerns);
        let had_lease = commit.at - commit.asked < PROMPT;
        let is_over = |fault: &Fault| Some(fault.end) <= linked || fault.start >= death;
        !commit.by_hand && had_lease && linked.is_some() && faults.all(is_over)
    }

    fn bounds(&self) -> Bounds {
        let empty = || -> Vec<Vec<_>> {
            let versions = self.commits.iter().map(Vec::len);
            versions.map(|len| vec![Vec::new(); len + 1]).collect()
        };
        let mut bounds = Bounds {
            told: empty(),
            own: empty(),
            lapses: Lapses::new(&self.faults, &self.links),
        };
        for write in &self.writes {
            let (key, version) = (write.key.index(), write.version as usize);
            if let Some(at) = write.told {
                bounds.told[key][version].push((write.node, at));
            }
            bounds.own[key][version].push((write.node, write.returned));
        }
        self.bind_the_dead(&mut bounds);
        bounds
    }

    /// Binds everybody by the writes of processes that died before their calls returned.
    fn bind_the_dead(&self, bounds: &mut Bounds) {
        let names = |write: &Write| (write.node, write.key.index(), write.version);
        let returned: HashSet<_> = self.writes.iter().map(names).collect();
        for (key, commits) in self.commits.iter().enumerate() {
            for (commit, version) in commits.iter().zip(1..) {
                let Some(death) = commit.node.and_then(|node| self.deaths.get(&node)) else {
                    continue;
                };
                let is_returned = returned.contains(&(commit.node, key, version));
                if !is_returned && self.has_left_nothing(commit, *death) {
                    bounds.told[key][version as usize].push((commit.node, *death));
                }
            }
        }
    }

    fn judge(&self, read: &Read, bounds: &Bounds, stale: &mut Vec<Stale>) -> Option<Kind> {
        let (key, commits) = (read.key.index(), &self.commits[read.key.index()]);
        let committed = match read.version.checked_sub(1) {
            None => Some(0), // it was never written
            Some(before) => commits.get(before as usize).map(|commit| commit.at),
        };
        if committed.is_none_or(|at| at > read.end) {
            return Some(Kind::FromTheFuture);
        }
        let next = read.version as usize + 1;
        // Newer versions that the database had before the read.
        let newer = commits[next - 1..]
            .iter()
            .take_while(|commit| commit.at < read.start);
        if let Some(since) = newer.clone().next().map(|commit| commit.at)
            && read.refresh
        {
            return Some(Kind::OlderThanRefresh { since });
        }
        let newer = next..next + newer.count();
        let own = bounds.own[key][newer.clone()].iter().flatten();
        let own = own.filter(|(node, at)| *node == Some(read.node) && *at < read.start);
        if let Some(since) = own.map(|(_, at)| *at).min() {
            return Some(Kind::OlderThanOwnWrite { since });
        }
        let told = bounds.told[key][newer].iter().flatten();
        let times = (read.start, read.end);
        let since = told
            .filter_map(|(node, at)| bounds.lapses.binds(*node, *at, times))
            .min()?;
        let policy = read.key.policy();
        if let Some(heard) = read.heard {
            let kind = match policy.is_without_l1() {
                true => Kind::OlderThanL2 { since },
                false => Kind::ToldLongAgo { since },
            };
            return (since < heard).then_some(kind);
        }
        if policy.is_without_l1() && !(policy.has_tags() && self.is_deaf(read, since)) {
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

    /// Whether pushes to the reader were lost since then: it does not hear of tags either.
    fn is_deaf(&self, read: &Read, since: u64) -> bool {
        let mut faults = self.faults_between(since, read.start);
        faults.any(|fault| fault.kind == FaultKind::Deafness && fault.node == Some(read.node))
    }

    /// The faults that can have to do with what went on in between.
    fn faults_between(&self, from: u64, to: u64) -> impl Iterator<Item = &Fault> + Clone {
        self.faults
            .iter()
            .filter(move |fault| fault.start <= to && fault.end + SETTLED >= from)
    }
}
