use std::{num::NonZeroU32, time::Duration};

/// The limits of a [`StampedeLock`](super::StampedeLock): how long it waits, and how many loads it
/// runs.
///
/// ```
/// use std::time::Duration;
/// use larder_lock::LoadLimits;
///
/// let patient = LoadLimits { max_wait: Duration::from_secs(20), ..LoadLimits::default() };
/// assert_eq!(patient.lease, Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLimits {
    /// The life of a lease without renewal. Another process can take over from a dead one after
    /// this time. Default 10 s.
    pub lease: Duration,
    /// The longest time of a load. After it, the lock cancels the load and releases its lease.
    /// Default 10 s.
    pub load_timeout: Duration,
    /// The longest wait for another process's load; after it the caller loads by itself, uncached.
    /// Also the longest wait for one of [`max_loads`](Self::max_loads). Default 5 s.
    pub max_wait: Duration,
    /// The time that a caller with a stale value at hand waits for a load. `None`, the default: it
    /// does not wait.
    pub soft_timeout: Option<Duration>,
    /// The number of loads that may run at once. `None`, the default: any number.
    pub max_loads: Option<NonZeroU32>,
    /// Whether a load must not begin while the remote store is out of reach; by default it may.
    pub needs_remote: bool,
}

impl Default for LoadLimits {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            load_timeout: Duration::from_secs(10),
            max_wait: Duration::from_secs(5),
            soft_timeout: None,
            max_loads: None,
            needs_remote: false,
        }
    }
}
