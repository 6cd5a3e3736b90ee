use std::{ops::Add, time::Duration};

use larder_core::{BreakerState, RemoteStats};

macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $field:ident = $counter:ident),* $(,)?) => {
        /// Counts of a policy, or of a larder, in this process since the larder was built.
        ///
        /// They are not a snapshot: under traffic, two of them can be a few calls apart.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $( $(#[doc = $doc])+ pub $field: u64, )*
            /// Changes that L2 has reported. This number and those after it are of the larder as a
            /// whole, and zero for a policy.
            pub pushes: u64,
            /// Lost connections to L2, and lost subscriptions.
            pub lanes_lost: u64,
            /// Probes that did not come back: a connection answered, but L2's pushes did not
            /// arrive.
            pub probe_failures: u64,
            /// The time until the push of the latest probe arrived.
            pub push_lag: Option<Duration>,
            /// The names that L2's servers remember for all of their clients, because the clients
            /// have read them, at the latest probe. A name takes about 125 bytes and its length.
            /// `None` if the servers do not tell.
            pub tracked_names: Option<u64>,
            /// Invalidations that this process could not send yet, because L2 is out of reach.
            /// Other processes may still serve the old values.
            pub unsent: u64,
            /// Entries of an outbox that the larder has confirmed, because their keys are gone from
            /// every level.
            pub outbox_drained: u64,
            /// Drains of the outbox in the background that failed.
            pub outbox_errors: u64,
            /// The state of the circuit breaker: whether the larder sends commands to L2.
            pub breaker: BreakerState,
            /// The number of times that the circuit breaker opened, because L2 did not answer or
            /// took no writes.
            pub breaker_opened: u64,
            /// Invalidations that were unsent at first, and that this process has sent since.
            pub resent: u64,
            /// Connections to an L2 that may have come back with older data: one for each lane.
            pub data_losses: u64,
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
                    tracked_names: self.tracked_names.max(other.tracked_names),
                    unsent: self.unsent + other.unsent,
                    outbox_drained: self.outbox_drained + other.outbox_drained,
                    outbox_errors: self.outbox_errors + other.outbox_errors,
                    breaker: self.breaker.max(other.breaker), // the worse one
                    breaker_opened: self.breaker_opened + other.breaker_opened,
                    resent: self.resent + other.resent,
                    data_losses: self.data_losses + other.data_losses,
                }
            }
        }
    };
}

stats! {
    /// Calls that L1 served. A reading call counts when it ends, once for each of its keys, in
    /// exactly one of this and the next six numbers. A dropped call counts in none.
    l1_hits = L1Hit,
    /// Calls that L2 served. If several calls share one read of L2, one of them counts here.
    l2_hits = L2Hit,
    /// Calls that got a stale value in place of a load.
    stale_hits = StaleHit,
    /// Calls that got their value from their own loader.
    loaded = Loaded,
    /// Calls that shared the lookup or load of another call.
    joined = Joined,
    /// Calls without a loader, such as `get`, that found nothing.
    absent = Absent,
    /// Calls that failed.
    errors = Error,
    /// Loads that began, also in the background.
    loads = Load,
    /// Those of the loads that began for a value that is still served: a stale value, or one that
    /// is due for a refresh.
    refreshes = Refresh,
    /// Loads that failed, panicked or timed out, or that could not begin, because of `max_loads` or
    /// because L2 was out of reach.
    load_errors = LoadError,
    /// Loaded or written values that no level keeps, because another caller wrote or invalidated
    /// the key meanwhile.
    refused = Refused,
    /// Those of the refused values whose lease was lost, or marked by an invalidation.
    leases_lost = LeaseLost,
    /// Calls of `write_through`, `write_around` and `insert`.
    writes = Write,
    /// Keys that a caller in this process has invalidated, by `Cache::invalidate` or
    /// `Larder::invalidate`.
    invalidations = Invalidation,
    /// Values in L2 that did not decode.
    undecodable = Undecodable,
    /// Values that no level keeps, because they are too large or cannot be encoded.
    unstorable = Unstorable,
    /// Calls of L2 that failed.
    l2_errors = L2Error,
}

impl Stats {
    /// The number of reading calls that have ended. A call for several keys counts once for each.
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

    /// The number of calls that a level served, with a fresh or a stale value. See the example of
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
            tracked_names,
            unsent,
            breaker,
            breaker_opened,
            resent,
            data_losses,
        } = report;
        Self {
            pushes,
            lanes_lost,
            probe_failures,
            push_lag,
            tracked_names,
            unsent,
            breaker,
            breaker_opened,
            resent,
            data_losses,
            ..Self::default()
        }
    }
}
