//! Events, told to the application's own hook and to `tracing`.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use larder_core::{BreakerState, RemoteEvent};

/// Something that happened, as the hook of
/// [`LarderBuilder::on_event`](crate::LarderBuilder::on_event) is told.
///
/// A key is told with its prefix. Values are never told.
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
    /// A level had a fresh value. In L2 it was decoded once, however many callers shared it.
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
    /// No level had a value: a plain `get` returned none, or a load begins.
    Miss {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
    },
    /// A load begins that is to replace a value which is still served: a stale one, or ahead of its
    /// time.
    Refresh {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
    },
    /// A load has ended, or was not begun. One that nobody waits for any more is not told of.
    Load {
        /// The policy's name.
        policy: &'a str,
        /// The key.
        key: &'a str,
        /// How long the loader ran; zero if it was not begun.
        took: Duration,
        /// How the load ended.
        outcome: LoadOutcome,
    },
    /// L2 is given up for a while, is tried, or is asked again.
    Breaker {
        /// The state from now on.
        state: BreakerState,
    },
    /// An invalidation could not be sent, and is remembered.
    Unsent {
        /// How many are, of this lane.
        count: u64,
    },
    /// Invalidations that could not be sent at first have been sent.
    Resent {
        /// How many.
        count: u64,
    },
    /// A loaded or written value was not kept: somebody wrote or invalidated its key, or one of its
    /// tags, meanwhile.
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
    /// The knowledge that there is none.
    Absent,
    /// The value is what it was.
    NotModified,
    /// The loader's own error.
    Failed,
    /// The loader panicked.
    Panicked,
    /// It took longer than the policy's `load_timeout`.
    TimedOut,
    /// It was not begun: as many as the policy's `max_loads` were under way for all of its
    /// `max_wait`.
    Crowded,
    /// It was not begun: L2 is out of reach, and the policy says `on_outage = "fail"`.
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
        _ => return,
    };
    tracing::debug!(?event);
    if let Some(hook) = hook {
        hook.tell(&event);
    }
}
