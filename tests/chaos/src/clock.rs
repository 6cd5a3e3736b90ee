use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since this machine was started: the same clock in every process.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let nanos = Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    );
    u64::try_from(nanos.as_nanos()).unwrap_or(u64::MAX)
}
