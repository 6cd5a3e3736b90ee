use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::limits::Key;

/// The loads that run in a process: at most two of a key at a time, of which one is outdated.
#[derive(Debug, Default)]
pub(crate) struct Loads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: [usize; Key::COUNT],
    total: usize,
    most: usize,
}

/// A load under way.
pub(crate) struct Load<'a>(&'a Loads, Key);

impl Loads {
    /// Notes that a load begins. It ends when the returned guard is dropped.
    pub(crate) fn begin(&self, key: Key) -> Load<'_> {
        let mut state = self.state();
        let running = &mut state.running[key.index()];
        *running += 1;
        let running = *running;
        state.total += 1;
        state.most = state.most.max(running);
        Load(self, key)
    }

    /// The number of loads so far.
    pub(crate) fn total(&self) -> usize {
        self.state().total
    }

    /// The largest number of loads of one key at a time.
    pub(crate) fn most(&self) -> usize {
        self.state().most
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.state().running[self.1.index()] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_of_a_key_beside_each_other_are_counted() {
        let loads = Loads::default();
        let [key, other] = [0, 1].map(|at| Key::all().nth(at).unwrap());
        drop(loads.begin(key));
        let _first = loads.begin(key);
        let _other = loads.begin(other);
        assert_eq!(loads.most(), 1);
        drop(loads.begin(key));
        assert_eq!((loads.most(), loads.total()), (2, 4));
    }
}
