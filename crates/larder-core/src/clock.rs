use std::{
    fmt,
    ops::Add,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// A monotonic clock for the lives of entries, cheap enough to read on every hit.
///
/// The system's clock ticks about every 4 ms (`CLOCK_MONOTONIC_COARSE` on Linux) and costs a few
/// nanoseconds. larder uses no wall clock.
///
/// # Tests
/// Waits (time limits, leases, pauses) follow the runtime's own time, which a test can pause. Make
/// the clock with [`from_fn`](Self::from_fn) from that time, and one call moves both. With tokio,
/// give the test `start_paused = true`, and take `start` from `tokio::time::Instant::now()` in the
/// example there. Then `tokio::time::advance` moves the waits and the clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Source>);

/// A clock's source of time other than the system.
#[derive(Clone)]
enum Source {
    Manual(ManualClock),
    Function(Arc<dyn Fn() -> Duration + Send + Sync>),
}

/// The hand of a [`Clock::manual`].
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicU64>);

/// A point in time of a [`Clock`], in nanoseconds since an arbitrary origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Clock {
    /// Reads the system's coarse monotonic clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// Makes a clock that stands still until the returned hand moves it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use larder_core::Clock;
    ///
    /// let (clock, hand) = Clock::manual();
    /// let start = clock.now();
    /// hand.advance(Duration::from_secs(2));
    /// assert_eq!(clock.now().since(start), Duration::from_secs(2));
    /// ```
    pub fn manual() -> (Self, ManualClock) {
        let hand = ManualClock::default();
        (Self(Some(Source::Manual(hand.clone()))), hand)
    }

    /// Makes a clock from a function that returns the time since any fixed origin. That time must
    /// never go back.
    ///
    /// # Examples
    /// ```
    /// use std::time::Instant;
    /// use larder_core::Clock;
    ///
    /// let start = Instant::now();
    /// let clock = Clock::from_fn(move || start.elapsed());
    /// let before = clock.now();
    /// assert!(clock.now() >= before);
    /// ```
    pub fn from_fn(elapsed: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Some(Source::Function(Arc::new(elapsed))))
    }

    /// Tells the present moment.
    #[inline]
    pub fn now(&self) -> Moment {
        match &self.0 {
            None => Moment(coarse()),
            Some(source) => source.now(),
        }
    }
}

impl Source {
    #[cold]
    fn now(&self) -> Moment {
        match self {
            Self::Manual(hand) => Moment(hand.0.load(Ordering::Acquire)),
            Self::Function(elapsed) => Moment(nanos(elapsed())),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manual(_) => "Manual",
            Self::Function(_) => "Function",
        })
    }
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::AcqRel);
    }
}

impl Moment {
    /// A moment that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The time from `earlier` to this moment, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Adds without overflow: a sum that is out of range is [`Moment::NEVER`].
impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

#[cfg(all(target_os = "linux", not(target_env = "musl")))]
#[inline]
fn coarse() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // Both count up from zero.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

#[cfg(not(all(target_os = "linux", not(target_env = "musl"))))]
fn coarse() -> u64 {
    let ticks = coarsetime::Instant::now_without_cache_update().as_ticks();
    coarsetime::Duration::from_ticks(ticks).as_nanos()
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let (clock, hand) = Clock::manual();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        hand.advance(Duration::from_secs(2));
        assert_eq!(clock.now().since(start), Duration::from_secs(2));
        assert_eq!(start.since(clock.now()), Duration::ZERO);
    }

    #[test]
    fn huge_duration_saturates() {
        assert_eq!(Clock::system().now() + Duration::MAX, Moment::NEVER);
    }

    #[test]
    fn system_clock_never_goes_back() {
        let clock = Clock::system();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
