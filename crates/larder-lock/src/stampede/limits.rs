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
    /// A lease that is not renewed ends after this time: so fast does another process take over
    /// from a dead one. Default 10 s.
    pub lease: Duration,
    /// A load that takes longer is given up: its lease is free, and a late result is refused.
    /// Default 10 s.
    pub load_timeout: Duration,
    /// The longest wait for another process's load, after which the caller loads by itself,
    /// uncached; and for one of [`max_loads`](Self::max_loads). Default 5 s.
    pub max_wait: Duration,
    /// How long a caller waits for a load if there is a stale value; `None`, the default: not at
    /// all.
    pub soft_timeout: Option<Duration>,
    /// At most this many loads run at once; `None`, the default: there is no limit.
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
