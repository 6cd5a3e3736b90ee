use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use larder_core::{KeyHash, KeyRef, Push, PushListener};
use tokio::{sync::Notify, time::Instant};

use crate::sync::lock;

/// The callers of this process that wait for a lease to end, by the lease's key.
///
/// Pushes and this process's own scripts wake them, never an interval.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use larder_core::{Clock, Key, MemoryServer, Replacing};
/// use larder_lock::{Claimed, Leases};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = MemoryServer::new(Clock::system());
/// let [here, there] = [(); 2].map(|()| Leases::new(Arc::new(server.connect()))); // two processes
/// let pushes = Arc::new(here.waiters().clone()); // the store knows its listener weakly
/// let weak = Arc::downgrade(&pushes);
/// here.remote().subscribe(weak);
///
/// let (key, hour) = (Key::from_stored_name("report:7"), Duration::from_secs(3600));
/// let held = there.claim(&key, hour, Replacing::Nothing).await?;
/// let Claimed::Busy(waiter) = here.claim(&key, hour, Replacing::Nothing).await? else { panic!() };
/// drop(held); // which gives the lease up
/// waiter.wait().await; // much shorter than an hour
/// let claimed = here.claim(&key, hour, Replacing::Nothing).await?;
/// assert!(matches!(claimed, Claimed::Leased(_)));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Waiters(Arc<Mutex<Registry>>);

#[derive(Default)]
struct Registry {
    /// By the hash of the key: two keys that share one wake each other needlessly, which costs one
    /// more claim. Each waiter has its number.
    waiting: HashMap<KeyHash, Vec<(u64, Arc<Notify>)>>,
    /// The number of waiters that have come.
    came: u64,
}

/// A place in the list of a key's waiters, left when it is dropped.
///
/// ```
/// # use larder_core::KeyHash;
/// # use larder_lock::Waiters;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let waiters = Waiters::default();
/// let waiter = waiters.register(KeyHash(1)); // before the lease is asked for
/// assert_eq!(waiters.len(), 1);
/// waiters.wake(KeyHash(1)); // the lease's end is pushed
/// waiter.wait().await;
/// drop(waiter);
/// assert!(waiters.is_empty());
/// # }
/// ```
pub struct Waiter {
    waiters: Waiters,
    key: KeyHash,
    woken: Arc<Notify>,
    at_most: Duration,
}

impl Waiters {
    /// Enters the list for this key. Enter it **before** the claim is sent: otherwise the push can
    /// be handled before the waiter is there.
    // P8 register-then-claim
    pub fn register(&self, key: KeyHash) -> Waiter {
        let woken = Arc::new(Notify::new());
        let mut registry = self.registry();
        registry.came += 1;
        let place = (registry.came, woken.clone());
        registry.waiting.entry(key).or_default().push(place);
        drop(registry);
        Waiter {
            waiters: self.clone(),
            key,
            woken,
            at_most: Duration::ZERO,
        }
    }

    /// Wakes the waiters of this key.
    pub fn wake(&self, key: KeyHash) {
        if let Some(waiting) = self.registry().waiting.get(&key) {
            waiting.iter().for_each(|(_, woken)| woken.notify_one());
        }
    }

    /// Wakes the waiters of all keys, in the order in which they came.
    pub fn wake_all(&self) {
        let registry = self.registry();
        let mut all: Vec<_> = registry.waiting.values().flatten().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.iter().for_each(|(_, woken)| woken.notify_one());
    }

    /// The number of waiters.
    pub fn len(&self) -> usize {
        self.registry().waiting.values().map(Vec::len).sum()
    }

    /// Tells whether there are no waiters.
    pub fn is_empty(&self) -> bool {
        self.registry().waiting.is_empty()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.0)
    }
}

impl PushListener for Waiters {
    fn on_push(&self, push: Push<'_>) {
        match push {
            Push::Lease(key) => self.wake(KeyRef::new(key).hash()),
            Push::Lane(_) | Push::Prefix(_) => self.wake_all(),
            Push::Value(_) | Push::Tag(..) | Push::TagEpoch(_) => {}
        }
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiters")
            .field("waiting", &self.len())
            .finish()
    }
}

impl Waiter {
    /// Limits the wait to the rest of the lease.
    // P14 no-wait-for-expiry-push: an expiry is pushed late or never
    pub(crate) fn at_most(mut self, rest: Duration) -> Self {
        self.at_most = rest;
        self
    }

    /// The longest that the lease is still held, if it is not renewed.
    pub(crate) fn rest(&self) -> Duration {
        self.at_most
    }

    /// Tells whether the lease, which its holder took for this time, was taken after this moment.
    /// `asked` is from before the question to which the store answered. In doubt it was not.
    pub(crate) fn is_newer_than(&self, moment: Instant, asked: Instant, lease: Duration) -> bool {
        // Up to the first bound it may have been renewed; beyond the second, its holder has taken
        // it for longer than this process would. In both cases the rest does not tell its age.
        if self.at_most <= renewed(lease) || self.at_most > lease {
            return false;
        }
        // A millisecond more, because the store counts in whole ones.
        let age = lease.saturating_sub(self.at_most) + Duration::from_millis(1);
        age < asked.saturating_duration_since(moment)
    }

    /// Sleeps until the lease may be free: it was given up, or its time is over.
    ///
    /// # Cancellation
    /// Dropping the future leaves nothing behind; a wake-up that came meanwhile is kept for the
    /// next call.
    pub async fn wait(&self) {
        // A millisecond more than the store said: its rest is rounded down.
        let rest = self.at_most.saturating_add(Duration::from_millis(1));
        // The timeout is the lease's end, which nothing announces in time.
        let _ = tokio::time::timeout(rest, self.woken.notified()).await;
    }
}

/// How long a lease lives from a renewal on: 7/8 of its first time. So its rest tells a lease that
/// was never renewed, and thereby when that was taken.
pub(crate) fn renewed(lease: Duration) -> Duration {
    lease - lease / 8
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut registry = self.waiters.registry();
        if let Some(waiting) = registry.waiting.get_mut(&self.key) {
            waiting.retain(|(_, woken)| !Arc::ptr_eq(woken, &self.woken));
            if waiting.is_empty() {
                registry.waiting.remove(&self.key);
            }
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiter")
            .field("at_most", &self.at_most)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn wake_up_before_the_wait_is_kept() {
        let waiters = Waiters::default();
        let waiter = waiters
            .register(KeyHash(1))
            .at_most(Duration::from_secs(3600));
        waiters.wake(KeyHash(2));
        waiters.wake(KeyHash(1));
        let start = Instant::now();
        waiter.wait().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn age_of_a_lease_is_told_by_its_rest_only_if_that_is_of_this_setting_and_not_renewed() {
        let waiters = Waiters::default();
        let (first_claim, lease) = (Instant::now(), Duration::from_secs(8));
        let asked = first_claim + Duration::from_secs(1);
        let is_newer = |rest| {
            let waiter = waiters
                .register(KeyHash(1))
                .at_most(Duration::from_millis(rest));
            waiter.is_newer_than(first_claim, asked, lease)
        };
        assert!(is_newer(8_000), "taken just now");
        assert!(is_newer(7_500), "half a second ago");
        assert!(!is_newer(7_000), "renewed just now");
        assert!(!is_newer(8_001), "taken under a longer lease");
        assert!(!is_newer(60_000), "taken under a much longer lease");
    }

    #[tokio::test(start_paused = true)]
    async fn unannounced_end_of_the_lease_ends_the_wait() {
        let waiters = Waiters::default();
        let start = Instant::now();
        waiters
            .register(KeyHash(1))
            .at_most(Duration::from_millis(300))
            .wait()
            .await;
        let waited = start.elapsed();
        assert!((300..310).contains(&waited.as_millis()), "{waited:?}");
        assert!(waiters.is_empty(), "a dropped waiter leaves the list");
    }

    #[tokio::test]
    async fn waiters_of_all_keys_are_woken_in_the_order_in_which_they_came() {
        let (waiters, (woken, mut order)) = (Waiters::default(), mpsc::unbounded_channel());
        for number in 0..20 {
            let waiter = waiters.register(KeyHash(7 * number % 20));
            let (waiter, woken) = (waiter.at_most(Duration::from_secs(3600)), woken.clone());
            tokio::spawn(async move {
                waiter.wait().await;
                woken.send(number)
            });
        }
        tokio::task::yield_now().await; // each of them waits
        waiters.wake_all();
        for number in 0..20 {
            assert_eq!(order.recv().await, Some(number));
        }
    }
}
