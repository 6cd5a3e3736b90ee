use std::{ops::Add, time::Duration};

use larder_core::{BreakerState, RemoteStats};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $field:ident = $counter:ident),* $(,)?) => {
        /// Numbers of a policy, or of a larder: what this process did since the larder was built.
        ///
        /// The numbers are not read in one instant: under traffic they can be a few calls apart.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $( $(#[doc = $doc])+ pub $field: u64, )*
            /// Changes by others that L2 told of. This and what follows is of the larder as a
            /// whole, and zero for a policy.
            pub pushes: u64,
            /// How often a connection to L2, or a subscription, was lost.
            pub lanes_lost: u64,
            /// Probes that did not come back: a connection was alive, but L2's pushes did not reach
            /// it.
            pub probe_failures: u64,
            /// How long the push of the latest probe took to arrive.
            pub push_lag: Option<Duration>,
            /// Invalidations that could not be sent yet, because L2 is out of reach: other
            /// processes may still be served what they make out of date.
            pub unsent: u64,
            /// Entries of an outbox that were confirmed, because their keys are gone from every
            /// level.
            pub outbox_drained: u64,
            /// Drains of an outbox in the background that failed.
            pub outbox_errors: u64,
            /// Whether L2 is asked at all.
            pub breaker: BreakerState,
            /// How often L2 was given up for a while, because it did not answer or took no writes.
            pub breaker_opened: u64,
            /// Invalidations that could not be sent at first, and were sent later.
            pub resent: u64,
        }

        #[derive(Clone, Copy)]
        pub(crate) enum Count { $($counter),* }

        pub(super) const COUNTS: usize = [$(stringify!($counter)),*].len();

        impl Stats {
            /// The counts of a policy, each with its name.
            #[cfg(feature = "metrics")]
            pub(crate) fn counts(&self) -> [(&'static str, u64); COUNTS] {
                [$( (stringify!($field), self.$field) ),*]
            }
        }

        impl Stats {
            /// The sums of a policy's counters.
            pub(super) fn of(sum: impl Fn(Count) -> u64) -> Self {
                Self { $( $field: sum(Count::$counter), )* ..Self::default() }
            }
        }

        impl Add for Stats {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self {
                    $( $field: self.$field + other.$field, )*
                    pushes: self.pushes + other.pushes,
                    lanes_lost: self.lanes_lost + other.lanes_lost,
                    probe_failures: self.probe_failures + other.probe_failures,
                    push_lag: self.push_lag.max(other.push_lag),
                    unsent: self.unsent + other.unsent,
                    outbox_drained: self.outbox_drained + other.outbox_drained,
                    outbox_errors: self.outbox_errors + other.outbox_errors,
                    breaker: self.breaker.max(other.breaker), // the worse one
                    breaker_opened: self.breaker_opened + other.breaker_opened,
                    resent: self.resent + other.resent,
                }
            }
        }
    };
}

stats! {
    /// Calls that L1 served. Each reading call counts once for each of its keys, in exactly one of
    /// this and the next six numbers, when it ends; a call that is dropped counts in none.
    l1_hits = L1Hit,
    /// Calls that L2 served; a value that several callers share counts for one of them.
    l2_hits = L2Hit,
    /// Calls that were served a stale value in place of a load.
    stale_hits = StaleHit,
    /// Calls that were served by their own loader.
    loaded = Loaded,
    /// Calls that were served by the look or load of another call.
    joined = Joined,
    /// Calls without a loader, such as `get`, that found nothing.
    absent = Absent,
    /// Calls that failed.
    errors = Error,
    /// Loads that began, also in the background.
    loads = Load,
    /// Of these, the ones that were to replace a value which is still served: stale, or ahead of
    /// its time.
    refreshes = Refresh,
    /// Loads that failed, panicked or timed out, or were not begun, for lack of room or of L2.
    load_errors = LoadError,
    /// Loaded or written values that were not kept, because somebody wrote or invalidated their key
    /// meanwhile.
    refused = Refused,
    /// Of these, the ones whose lease was lost, or marked by an invalidation.
    leases_lost = LeaseLost,
    /// Calls of `write_through`, `write_around` and `insert`.
    writes = Write,
    /// Keys that were invalidated by a call here: of `Cache::invalidate` or `Larder::invalidate`.
    invalidations = Invalidation,
    /// Values in L2 that did not decode, and were loaded anew.
    undecodable = Undecodable,
    /// Values that were not kept because they are too large or cannot be encoded.
    unstorable = Unstorable,
    /// Calls of L2 that failed.
    l2_errors = L2Error,
}

impl Stats {
    /// The number of reading calls that have ended, each key of a call by itself.
    ///
    /// ```
    /// # use larder::Larder;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
    /// let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
    /// users.insert(1, "Ada".to_owned()).await?;
    /// users.get_many(&[1, 2]).await?;
    /// let stats = users.stats();
    /// assert_eq!((stats.calls(), stats.hits(), stats.misses()), (2, 1, 1));
    /// # Ok(()) }
    /// ```
    pub fn calls(&self) -> u64 {
        self.hits() + self.misses()
    }

    /// The number of calls that a level served, also with a stale value. See the example of
    /// [`calls`](Self::calls).
    pub fn hits(&self) -> u64 {
        self.l1_hits + self.l2_hits + self.stale_hits
    }

    /// The number of calls that no level served. See the example of [`calls`](Self::calls).
    pub fn misses(&self) -> u64 {
        self.loaded + self.joined + self.absent + self.errors
    }
}

impl From<RemoteStats> for Stats {
    fn from(report: RemoteStats) -> Self {
        let RemoteStats {
            pushes,
            lanes_lost,
            probe_failures,
            push_lag,
            unsent,
            breaker,
            breaker_opened,
            resent,
        } = report;
        Self {
            pushes,
            lanes_lost,
            probe_failures,
            push_lag,
            unsent,
            breaker,
            breaker_opened,
            resent,
            ..Self::default()
        }
    }
}
