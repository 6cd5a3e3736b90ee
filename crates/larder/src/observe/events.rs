//! Events, told to the application's own hook and to `tracing`.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use larder_core::{BreakerState, RemoteEvent};

/// An event, for the hook of [`LarderBuilder::on_event`](crate::LarderBuilder::on_event).
///
/// Events carry keys with their prefix, and never values.
///
/// ```
/// # use std::{io, sync::{Arc, atomic::{AtomicU64, Ordering}}};
/// # use larder::{Event, Larder, LoadOutcome};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// let loads = Arc::new(AtomicU64::new(0));
/// let seen = loads.clone();
/// let larder = Larder::builder()
///     .on_event(move |event| {
///         if let Event::Load { outcome: LoadOutcome::Loaded, .. } = event {
///             seen.fetch_add(1, Ordering::Relaxed);
///         }
///     })
///     .build()
///     .await?;
/// let users = larder.cache::<u64, String>("user_profile")?;
/// users.get_or_load(42, || async { Ok::<_, io::Error>("Ada".to_owned()) }).await?;
/// assert_eq!(loads.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A level had a fresh value. Several callers that share one read of L2 are one event.
    Hit {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
        /// Which level had it.
        level: Level,
    },
    /// A stale value was served in place of a load.
    Stale {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
    },
    /// No level had a value: a call without a loader returns `None`, or a load begins.
    Miss {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
    },
    /// A load begins for a value that is still served: a stale value, or one that is due for a
    /// refresh.
    Refresh {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
    },
    /// A load has ended, or could not begin. A load that was cancelled because its last caller had
    /// gone causes no event.
    Load {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
        /// The time that the loader ran; zero if it did not begin.
        took: Duration,
        /// How the load ended.
        outcome: LoadOutcome,
    },
    /// The circuit breaker of L2 opened, became half-open, or closed.
    Breaker {
        /// The new state.
        state: BreakerState,
    },
    /// A lane could not send an invalidation, and remembers it.
    Unsent {
        /// The number of unsent invalidations of this lane.
        count: u64,
    },
    /// A lane has sent invalidations that were unsent.
    Resent {
        /// How many.
        count: u64,
    },
    /// L2 may have come back with older data. This process invalidates again what the server may
    /// have forgotten, before any caller reads through the connection.
    DataLoss {
        /// The number of keys, prefixes and tags.
        count: u64,
    },
    /// No level keeps a loaded or written value, because another caller wrote or invalidated its
    /// key, or invalidated one of its tags, meanwhile.
    Refused {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
    },
}

/// A level of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// This process's own.
    L1,
    /// The shared one.
    L2,
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadOutcome {
    /// A value.
    Loaded,
    /// The loader said that there is no value.
    Absent,
    /// The loader said that the value is unchanged.
    NotModified,
    /// The loader's own error.
    Failed,
    /// The loader panicked.
    Panicked,
    /// The loader took longer than the policy's `load_timeout`.
    TimedOut,
    /// The load did not begin: the policy's `max_loads` was reached for all of its `max_wait`.
    Crowded,
    /// The load did not begin: L2 is out of reach, and the policy says `on_outage = "fail"`.
    CutOff,
}

/// The application's hook.
#[derive(Clone)]
pub(crate) struct Hook(Arc<dyn Fn(&Event<'_>) + Send + Sync>);

impl Hook {
    pub(crate) fn new(hook: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    /// Calls it. Its panic is its own affair: the task that tells has other callers waiting for it.
    #[cold]
    pub(crate) fn tell(&self, event: &Event<'_>) {
        let _ = catch_unwind(AssertUnwindSafe(|| (self.0)(event)));
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

/// Tells of what happens to L2 as a whole.
pub(crate) fn tell_of_remote(hook: Option<&Hook>, event: RemoteEvent) {
    let event = match event {
        RemoteEvent::Opened => Event::Breaker {
            state: BreakerState::Open,
        },
        RemoteEvent::HalfOpen => Event::Breaker {
            state: BreakerState::HalfOpen,
        },
        RemoteEvent::Closed => Event::Breaker {
            state: BreakerState::Closed,
        },
        RemoteEvent::Unsent { count: pending } => Event::Unsent { count: pending },
        RemoteEvent::Resent { count } => Event::Resent { count },
        RemoteEvent::DataLoss { count } => Event::DataLoss { count },
        _ => return,
    };
    tracing::debug!(?event);
    if let Some(hook) = hook {
        hook.tell(&event);
    }
}
