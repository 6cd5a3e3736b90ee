use std::time::Duration;

use crate::clock::Moment;

/// The times at which an entry goes from fresh to due for a reload, to stale, to gone.
///
/// To take little room, a life keeps its first moment, and the others by their distance from it: in
/// milliseconds, or in seconds if the end is 24 days away or more. Both are rounded down.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use larder_core::{Clock, Life, Phase};
///
/// let (clock, hand) = Clock::manual();
/// let after = |seconds| clock.now() + Duration::from_secs(seconds);
/// let life = Life::new(after(50), after(60), after(90)); // due, stale, end
///
/// hand.advance(Duration::from_secs(55));
/// assert_eq!(life.phase(clock.now()), Some(Phase::Due));
/// hand.advance(Duration::from_secs(35));
/// assert_eq!(life.phase(clock.now()), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    due: Moment,
    /// In the unit of `end_in`.
    stale_in: u32,
    /// In seconds if the bit [`SECONDS`] is set, else in milliseconds.
    end_in: u32,
}

const SECONDS: u32 = 1 << 31;

/// The part of its [`Life`] that an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is served.
    Fresh,
    /// It is served, and a caller that can load should start a reload.
    Due,
    /// It is served only in place of a load: while one runs, or because one has failed.
    Stale,
}

impl Life {
    /// Makes a life that is fresh to its end.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use larder_core::{Clock, Life, Phase};
    ///
    /// let (clock, hand) = Clock::manual();
    /// let life = Life::until(clock.now() + Duration::from_secs(60));
    /// hand.advance(Duration::from_secs(59));
    /// assert_eq!(life.phase(clock.now()), Some(Phase::Fresh));
    /// ```
    pub fn until(end: Moment) -> Self {
        Self {
            due: end,
            stale_in: 0,
            end_in: 0,
        }
    }

    /// Makes a life that is due from one moment on, stale from the next, and over from the last.
    ///
    /// If `due` is later than `stale`, or `stale` later than `end`, the later moment counts as the
    /// earlier one.
    pub fn new(due: Moment, stale: Moment, end: Moment) -> Self {
        let stale = stale.min(end);
        let due = due.min(stale);
        let [stale, end] = [stale, end].map(|moment| moment.since(due));
        let most =
            |count: u128| u32::try_from(count).map_or(SECONDS - 1, |count| count.min(SECONDS - 1));
        if end.as_millis() < SECONDS.into() {
            return Self {
                due,
                stale_in: most(stale.as_millis()),
                end_in: most(end.as_millis()),
            };
        }
        let [stale_in, end_in] = [stale, end].map(|time| most(time.as_secs().into()));
        Self {
            due,
            stale_in,
            end_in: end_in | SECONDS,
        }
    }

    /// The moment from which the entry must not be served at all.
    pub fn end(&self) -> Moment {
        self.after(self.end_in & !SECONDS)
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

    fn after(&self, count: u32) -> Moment {
        self.due
            + match self.end_in & SECONDS {
                0 => Duration::from_millis(count.into()),
                _ => Duration::from_secs(count.into()),
            }
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
        assert_eq!(
            phases,
            [
                Some(Phase::Fresh),
                Some(Phase::Fresh),
                due,
                due,
                stale,
                stale,
                None
            ]
        );
        assert_eq!(Life::until(at(1)).phase(at(0)), Some(Phase::Fresh));
        assert_eq!(Life::until(at(1)).phase(at(1)), None);
        assert_eq!(Life::new(at(8), at(9), at(5)), Life::until(at(5)));
        let day = 24 * 3600;
        for days in [1, 24, 25, 100, 10_000] {
            let (due, stale, end) = (at(days * day), at(2 * days * day), at(3 * days * day));
            let life = Life::new(due, stale, end);
            assert_eq!((life.end(), life.phase(stale)), (end, Some(Phase::Stale)));
            assert_eq!(life.phase(at(2 * days * day - 1)), Some(Phase::Due));
            assert_eq!(
                Life::new(due, stale, Moment::NEVER).phase(stale),
                Some(Phase::Stale)
            );
        }
        assert_eq!(
            Life::until(Moment::NEVER).phase(at(100 * 365 * 24 * 3600)),
            Some(Phase::Fresh)
        );
    }
}
