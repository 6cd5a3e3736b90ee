use std::sync::{Mutex, MutexGuard, PoisonError};

use larder_core::{Push, PushListener};

use crate::limits::Key;

/// The loads that run in a process, and what may have made them out of date: one that runs for those who came before an
/// invalidation, and one for those who came after it, may run beside each other (P2). Any others may not.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: [OfKey; Key::COUNT],
    total: usize,
    most: usize,
    unexplained: usize,
}

#[derive(Debug, Default)]
struct OfKey {
    /// Grows with all that may have advanced one of the key's cells.
    changes: u64,
    /// Writes and invalidations of this process that are under way, and may advance them at any moment.
    writes: usize,
    running: Vec<Begun>,
}

/// The changes from before the call that led to a load, and from before the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Begun {
    called: u64,
    loads: u64,
}

/// A load under way.
pub(crate) struct Load<'a>(&'a Loads, Key, Begun);

/// A write or an invalidation under way.
pub(crate) struct Write<'a>(&'a Loads, Key);

impl Loads {
    /// What a call that begins now is to say when it comes to load.
    pub(crate) fn called(&self, key: Key) -> u64 {
        self.state().keys[key.index()].changes
    }

    /// A load begins, and ends with what is returned.
    pub(crate) fn begin(&self, key: Key, called: u64) -> Load<'_> {
        let mut state = self.state();
        let of_key = &mut state.keys[key.index()];
        let begun = Begun { called, loads: of_key.changes };
        let (mut most, mut unexplained) = (1, 1);
        // While a write is under way, it may have come between any two.
        for other in of_key.running.iter().filter(|_| of_key.writes == 0) {
            most += usize::from(other.loads == begun.loads);
            // All of them are equal: nothing at all has changed since the first of the two calls began.
            unexplained += usize::from(*other == begun && begun.called == begun.loads);
        }
        of_key.running.push(begun);
        state.total += 1;
        state.most = state.most.max(most);
        state.unexplained = state.unexplained.max(unexplained);
        Load(self, key, begun)
    }

    /// A write or an invalidation begins, and ends with what is returned.
    pub(crate) fn write(&self, key: Key) -> Write<'_> {
        let mut state = self.state();
        state.keys[key.index()].writes += 1;
        state.keys[key.index()].changes += 1;
        Write(self, key)
    }

    /// How many there were.
    pub(crate) fn total(&self) -> usize {
        self.state().total
    }

    /// The largest number of one key's loads that ran at a time and had no invalidation between their beginnings.
    pub(crate) fn most(&self) -> usize {
        self.state().most
    }

    /// The same for loads that had none since the calls that led to them either.
    pub(crate) fn unexplained(&self) -> usize {
        self.state().unexplained
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let running = &mut state.keys[self.1.index()].running;
        if let Some(at) = running.iter().position(|begun| *begun == self.2) {
            running.swap_remove(at);
        }
    }
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.keys[self.1.index()].writes -= 1;
        state.keys[self.1.index()].changes += 1;
    }
}

impl PushListener for Loads {
    fn on_push(&self, push: Push<'_>) {
        let changed = |keys: &mut [OfKey]| keys.iter_mut().for_each(|key| key.changes += 1);
        let mut state = self.state();
        match push {
            // A lease that an invalidation elsewhere has ended is told as such if there was no value to remove.
            Push::Value(name) | Push::Lease(name) => {
                if let Some(key) = Key::named(name) {
                    state.keys[key.index()].changes += 1;
                }
            }
            Push::Lane(_) | Push::Prefix(_) => changed(&mut state.keys),
            Push::Tag(..) | Push::Order(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_beside_each_other_are_found_unless_something_changed() {
        let loads = Loads::default();
        let key = Key::all().next().unwrap();
        let called = loads.called(key);
        let first = loads.begin(key, called);
        drop(loads.write(key));
        drop(loads.begin(key, called));
        assert_eq!((loads.most(), loads.unexplained()), (1, 1), "an invalidation lies between them");
        let changed = loads.begin(key, called);
        drop(loads.begin(key, called));
        assert_eq!((loads.most(), loads.unexplained()), (2, 1), "and between the calls and their loads");
        drop((first, changed));
        let called = loads.called(key);
        let _first = loads.begin(key, called);
        drop(loads.begin(key, called));
        assert_eq!((loads.most(), loads.unexplained(), loads.total()), (2, 2, 6));
    }
}
