use std::time::Duration;

use crate::Moment;

/// How an entry ages: from fresh, to fresh but due for a reload, to stale, to gone.
///
/// What follows the first of these moments is kept in whole milliseconds from it, rounded down, and at most 49 days: so
/// that an entry takes little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    due: Moment,
    stale_in: u32,
    end_in: u32,
}

/// What an entry is at some moment of its [`Life`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is served.
    Fresh,
    /// It is served, and who can load should start a reload.
    Due,
    /// It is served only in place of a load: while one runs, or because one has failed.
    Stale,
}

impl Life {
    /// A life that is fresh to its end.
    pub fn until(end: Moment) -> Self {
        Self { due: end, stale_in: 0, end_in: 0 }
    }

    /// A life that is due for a reload from one moment on, stale from the next, and over from the last. An earlier
    /// moment that lies behind a later one counts as that one.
    pub fn new(due: Moment, stale: Moment, end: Moment) -> Self {
        let stale = stale.min(end);
        let due = due.min(stale);
        let after = |moment: Moment| u32::try_from(moment.since(due).as_millis()).unwrap_or(u32::MAX);
        Self { due, stale_in: after(stale), end_in: after(end) }
    }

    /// The moment from which the entry must not be served at all.
    pub fn end(&self) -> Moment {
        self.after(self.end_in)
    }

    /// The phase at this moment; `None` from the end on.
    #[inline]
    pub fn phase(&self, now: Moment) -> Option<Phase> {
        match () {
            () if now < self.due => Some(Phase::Fresh),
            () if now < self.after(self.stale_in) => Some(Phase::Due),
            () if now < self.end() => Some(Phase::Stale),
            () => None,
        }
    }

    fn after(&self, millis: u32) -> Moment {
        self.due + Duration::from_millis(millis.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Clock;

    #[test]
    fn entry_ages_from_fresh_to_due_to_stale_to_gone() {
        let start = Clock::manual().0.now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let life = Life::new(at(8), at(10), at(20));
        let phases = [0, 7, 8, 9, 10, 19, 20].map(|second| life.phase(at(second)));
        let (due, stale) = (Some(Phase::Due), Some(Phase::Stale));
        assert_eq!(phases, [Some(Phase::Fresh), Some(Phase::Fresh), due, due, stale, stale, None]);
        assert_eq!(Life::until(at(1)).phase(at(0)), Some(Phase::Fresh));
        assert_eq!(Life::until(at(1)).phase(at(1)), None);
        assert_eq!(Life::new(at(8), at(9), at(5)), Life::until(at(5)));
        assert_eq!(Life::new(at(8), at(9), Moment::NEVER).phase(at(49 * 24 * 3600)), Some(Phase::Stale));
        assert_eq!(Life::until(Moment::NEVER).phase(at(100 * 365 * 24 * 3600)), Some(Phase::Fresh));
    }
}
