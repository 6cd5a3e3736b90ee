use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The names that a lane has replaced or invalidated lately.
pub(crate) struct RedoLog {
    /// The most names.
    max: usize,
    state: Mutex<State>,
}

/// The kind of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Key,
    Tag,
    /// The beginning of keys, all of which were cleared.
    Prefix,
    /// Every tag; its name is empty.
    AllTags,
}

/// The names to invalidate before anybody reads through a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) keys: Vec<Box<str>>,
    pub(crate) tags: Vec<Box<str>>,
    /// The beginnings of keys, as a clear takes them.
    pub(crate) prefixes: Vec<Box<str>>,
    pub(crate) all_tags: bool,
}

const KINDS: usize = 4;

/// The most bytes of names: 16 MiB, for each lane.
const MOST_BYTES: usize = 16 * 1024 * 1024;

struct State {
    /// For each kind: the newest segment in which a name was noted.
    names: [HashMap<Box<str>, u64>; KINDS],
    len: usize,
    bytes: usize,
    /// The segment in which names are noted now.
    segment: u64,
    /// The number of unanswered operations of each segment that has any, the oldest first.
    unanswered: Vec<(u64, usize)>,
    /// The newest segment of which names were dropped.
    dropped: u64,
}

/// An operation that is noted, until its reply was handled.
#[must_use]
pub(crate) struct Noted<'a>(Option<(&'a RedoLog, u64)>);

impl RedoLog {
    pub(crate) fn new(max: usize) -> Self {
        let state = State {
            names: Default::default(),
            len: 0,
            bytes: 0,
            segment: 1,
            unanswered: Vec::new(),
            dropped: 0,
        };
        Self {
            max,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, kind: Kind, name: &str) -> Noted<'_> {
        let mut state = self.state();
        // Before the name is noted: it is in the segment that counts its operation.
        if state.len >= self.max || state.bytes >= MOST_BYTES {
            state.drop_oldest();
        }
        state.note(kind, name);
        let segment = state.segment;
        match state.unanswered.last_mut() {
            Some((newest, number)) if *newest == segment => *number += 1,
            _ => state.unanswered.push((segment, 1)),
        }
        Noted(Some((self, segment)))
    }

    /// Begins the next segment, and returns the newest one that was answered in full, as all before
    /// it were: 0 if there is none.
    pub(crate) fn close(&self) -> u64 {
        let mut state = self.state();
        state.segment += 1;
        let oldest = state.unanswered.first().map(|(segment, _)| *segment);
        oldest.unwrap_or(state.segment) - 1
    }

    /// The names that were noted after this segment; `None` if some of them were dropped.
    pub(crate) fn since(&self, segment: u64) -> Option<Forgotten> {
        let state = self.state();
        (segment >= state.dropped).then(|| state.later_than(segment))
    }

    /// All names that the log still has.
    pub(crate) fn all(&self) -> Forgotten {
        self.state().later_than(0)
    }
}

impl State {
    fn note(&mut self, kind: Kind, name: &str) {
        let (names, segment) = (&mut self.names[kind as usize], self.segment);
        if let Some(noted) = names.get_mut(name) {
            *noted = segment;
            return;
        }
        names.insert(name.into(), segment);
        self.len += 1;
        self.bytes += name.len();
    }

    /// Drops the oldest segments: about a quarter of all names, so that it is done seldom.
    fn drop_oldest(&mut self) {
        let mut segments: Vec<u64> = self
            .names
            .iter()
            .flat_map(HashMap::values)
            .copied()
            .collect();
        if segments.is_empty() {
            return;
        }
        let quarter = segments.len() / 4;
        let (_, last, _) = segments.select_nth_unstable(quarter);
        self.dropped = *last;
        // Names that are noted from now on are in a segment that is whole.
        self.segment = self.segment.max(self.dropped + 1);
        for names in &mut self.names {
            names.retain(|_, segment| *segment > self.dropped);
        }
        let names = self.names.iter().flat_map(HashMap::keys);
        (self.len, self.bytes) =
            names.fold((0, 0), |(len, bytes), name| (len + 1, bytes + name.len()));
    }

    fn later_than(&self, segment: u64) -> Forgotten {
        let later = |kind: Kind| {
            let names = self.names[kind as usize].iter();
            let later = names.filter(|(_, noted)| **noted > segment);
            later.map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        Forgotten {
            keys: later(Kind::Key),
            tags: later(Kind::Tag),
            prefixes: later(Kind::Prefix),
            all_tags: !later(Kind::AllTags).is_empty(),
        }
    }
}

impl Noted<'_> {
    /// For a lane that keeps no log.
    pub(crate) fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        let Some((log, segment)) = self.0 else { return };
        let mut state = log.state();
        let Some(at) = state.unanswered.iter().position(|(of, _)| *of == segment) else {
            return;
        };
        state.unanswered[at].1 -= 1;
        if state.unanswered[at].1 == 0 {
            state.unanswered.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(forgotten: Option<Forgotten>) -> Option<Vec<Box<str>>> {
        forgotten.map(|mut names| {
            names.keys.sort();
            names.keys
        })
    }

    fn note(log: &RedoLog, name: &str) {
        drop(log.note(Kind::Key, name));
    }

    #[test]
    fn server_that_knows_a_mark_has_done_what_was_noted_before_it() {
        let log = RedoLog::new(10);
        note(&log, "a");
        let mark = log.close();
        note(&log, "b");
        assert_eq!(keys(log.since(mark)), Some(vec!["b".into()]));
        assert_eq!(keys(log.since(0)), Some(vec!["a".into(), "b".into()]));
        note(&log, "a");
        assert_eq!(keys(log.since(mark)), Some(vec!["a".into(), "b".into()]));
        assert_eq!(keys(log.since(log.close())), Some(vec![]));
    }

    #[test]
    fn mark_does_not_pass_an_operation_without_an_answer() {
        let log = RedoLog::new(10);
        let slow = log.note(Kind::Key, "slow");
        let before = log.close();
        note(&log, "quick");
        assert_eq!((before, log.close()), (0, 0));
        drop(slow);
        assert_eq!(keys(log.since(log.close())), Some(vec![]));
    }

    #[test]
    fn log_that_is_full_drops_its_oldest_segments_and_says_so() {
        let log = RedoLog::new(8);
        let mut marks = vec![0];
        for n in 0..9 {
            note(&log, &n.to_string());
            marks.push(log.close());
        }
        assert_eq!(keys(log.since(marks[2])), None);
        assert_eq!(
            keys(log.since(marks[7])),
            Some(vec!["7".into(), "8".into()])
        );
        assert!(!log.all().keys.is_empty());
    }

    #[test]
    fn name_that_fills_the_log_is_there_until_a_mark_after_its_answer() {
        let log = RedoLog::new(2);
        note(&log, "a");
        note(&log, "b");
        let slow = log.note(Kind::Key, "slow");
        let mark = log.close();
        drop(slow);
        assert_eq!(keys(log.since(mark)), Some(vec!["slow".into()]));
    }

    #[test]
    fn names_of_one_segment_beyond_the_bound_leave_a_log_that_does_not_reach_back() {
        let log = RedoLog::new(2);
        for n in 0..3 {
            note(&log, &n.to_string());
        }
        assert_eq!(keys(log.since(0)), None);
        note(&log, "later");
        let mark = log.close();
        assert_eq!(keys(log.since(mark)), Some(vec![]));
        note(&log, "last");
        assert_eq!(keys(log.since(mark)), Some(vec!["last".into()]));
    }
}
