use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use larder_core::{Generations, Key, LaneIndex, PolicyIndex, Stamp};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::limits::LoadLimits;
use crate::sync::lock;

/// Decides which loaders run in this process. Each key may have one current load, and beside it at
/// most one that an invalidation has outdated. All keys together may have `max_loads`.
///
/// Overdue loads are next, then the load that has waited longest. So a load that asks again and
/// again does not overtake another.
#[derive(Debug)]
pub(crate) struct LoadQueue {
    generations: Arc<Generations>,
    /// The index of the policy whose keys these are.
    policy: PolicyIndex,
    keys: Mutex<HashMap<Key, KeyQueue>>,
    max_loads: Option<Arc<Semaphore>>,
    /// Whether `load_timeout` is at most `max_wait`. Then the running loader's own limit ends the
    /// wait for it, and a load whose `max_wait` is over goes on waiting, as overdue.
    is_ended_by_loaders: bool,
    /// How many wait, readable without the lock.
    waiting: AtomicUsize,
    next_id: AtomicU64,
}

/// The loads of one key. It is there as long as one runs or waits.
#[derive(Debug, Default)]
struct KeyQueue {
    running: [Option<Running>; 2],
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    id: u64,
    /// From before the loader runs, or waits to be run.
    stamp: Stamp,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    lane: LaneIndex,
    is_overdue: bool,
    granted: oneshot::Sender<()>,
}

/// The place of one load in its key's queue, left when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    queue: Arc<LoadQueue>,
    key: Key,
    id: u64,
}

/// The right to run one of `max_loads` loaders, until it is dropped.
#[derive(Debug)]
pub struct LoadPermit(
    #[expect(dead_code, reason = "it is held to be dropped")] Option<OwnedSemaphorePermit>,
);

/// The right to run the loader.
pub(super) struct RightToLoad {
    /// Given back before the place, for the load that is next.
    pub(super) _permit: LoadPermit,
    /// `None` for a load that could not wait for its place any longer.
    pub(super) place: Option<Place>,
}

impl LoadQueue {
    pub(crate) fn new(
        generations: Arc<Generations>,
        policy: PolicyIndex,
        limits: &LoadLimits,
    ) -> Arc<Self> {
        let max_loads = limits.max_loads.map(|most| {
            let most = usize::try_from(most.get()).unwrap_or(usize::MAX);
            Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
        });
        Arc::new(Self {
            generations,
            policy,
            keys: Mutex::default(),
            max_loads,
            is_ended_by_loaders: limits.load_timeout <= limits.max_wait,
            waiting: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
        })
    }

    /// Takes one of `max_loads`, if there is one left.
    pub(crate) fn try_permit(&self) -> Option<LoadPermit> {
        match self
            .max_loads
            .clone()
            .map(Semaphore::try_acquire_owned)
            .transpose()
        {
            Ok(permit) => Some(LoadPermit(permit)),
            Err(_none_left) => None,
        }
    }

    /// Takes one of `max_loads`, when there is one left.
    pub(crate) async fn permit(&self) -> LoadPermit {
        match self.max_loads.clone() {
            // The semaphore is never closed.
            Some(permits) => LoadPermit(permits.acquire_owned().await.ok()),
            None => LoadPermit(None),
        }
    }

    /// A permit for a load that counts as part of another one.
    pub(crate) fn uncounted(&self) -> LoadPermit {
        LoadPermit(None)
    }

    /// Enters a load under this stamp if it may run at once, and no other one waits.
    pub(crate) fn try_enter(self: &Arc<Self>, key: &Key, stamp: Stamp) -> Option<Place> {
        let mut keys = lock(&self.keys);
        let queue = keys.entry(key.clone()).or_default();
        let free = if queue.waiting.is_empty() {
            self.free(queue, key)
        } else {
            None
        }?;
        let id = self.new_id();
        queue.running[free] = Some(Running { id, stamp });
        drop(keys);
        Some(Place {
            queue: self.clone(),
            key: key.clone(),
            id,
        })
    }

    /// Enters a load when it may run. An overdue one goes before all that are not.
    async fn enter(self: &Arc<Self>, key: &Key, lane: LaneIndex, is_overdue: bool) -> Place {
        let (granted, grant) = oneshot::channel();
        let id = self.new_id();
        {
            let mut keys = lock(&self.keys);
            let queue = keys.entry(key.clone()).or_default();
            let before = match is_overdue {
                true => queue
                    .waiting
                    .iter()
                    .take_while(|waiting| waiting.is_overdue)
                    .count(),
                false => queue.waiting.len(),
            };
            queue.waiting.insert(
                before,
                Waiting {
                    id,
                    lane,
                    is_overdue,
                    granted,
                },
            );
            self.waiting.fetch_add(1, Ordering::Relaxed); // it orders nothing
            self.grant(queue, key);
        }
        // From here on a drop of this future leaves the queue.
        let place = Place {
            queue: self.clone(),
            key: key.clone(),
            id,
        };
        let _ = grant.await; // its sender is dropped with the place only
        place
    }

    /// Waits for a place until this moment, and for a permit until then or until the load turns out
    /// to need none; `None` if too many loads were under way all the time.
    pub(super) async fn wait_for_right(
        self: &Arc<Self>,
        key: &Key,
        lane: LaneIndex,
        needs_none: impl Future<Output = ()>,
        until: Instant,
        is_overdue: bool,
    ) -> Option<RightToLoad> {
        let place = match timeout_at(until, self.enter(key, lane, is_overdue)).await {
            Ok(place) => Some(place),
            Err(_elapsed) if self.is_ended_by_loaders => Some(self.enter(key, lane, true).await),
            Err(_elapsed) => None,
        };
        let permit = tokio::select! {
            biased; // one that needs none takes none
            () = needs_none => self.uncounted(),
            // The limit is the policy's own.
            permit = timeout_at(until, self.permit()) => permit.ok()?,
        };
        Some(RightToLoad {
            _permit: permit,
            place,
        })
    }

    /// Lets the key's next load run if an invalidation has outdated the one that runs.
    pub(crate) fn recheck(&self, key: &Key) {
        if self.waiting.load(Ordering::Relaxed) > 0
            && let Some(queue) = lock(&self.keys).get_mut(key)
        {
            self.grant(queue, key);
        }
    }

    /// The place for a further load of the key, if it may run now.
    fn free(&self, queue: &KeyQueue, key: &Key) -> Option<usize> {
        let is_current =
            |running: &Running| self.generations.is_current(key.hash(), &running.stamp);
        match &queue.running {
            [None, None] => Some(0),
            [Some(other), None] if !is_current(other) => Some(1),
            [None, Some(other)] if !is_current(other) => Some(0),
            _ => None,
        }
    }

    fn grant(&self, queue: &mut KeyQueue, key: &Key) {
        while let Some(free) = self.free(queue, key)
            && let Some(Waiting {
                id, lane, granted, ..
            }) = queue.waiting.pop_front()
        {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let stamp = self.generations.stamp(key.hash(), lane, self.policy);
            if granted.send(()).is_ok() {
                queue.running[free] = Some(Running { id, stamp });
            }
        }
    }

    fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed) // only the numbers' difference matters
    }
}

impl Place {
    /// Says that the loader runs under this stamp.
    pub(crate) fn renew(&self, stamp: Stamp) {
        if let Some(queue) = lock(&self.queue.keys).get_mut(&self.key) {
            let running = queue.running.iter_mut().flatten();
            running
                .filter(|running| running.id == self.id)
                .for_each(|running| running.stamp = stamp);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut keys = lock(&self.queue.keys);
        let Some(queue) = keys.get_mut(&self.key) else {
            return;
        };
        for running in &mut queue.running {
            running.take_if(|running| running.id == self.id);
        }
        if let Some(at) = queue
            .waiting
            .iter()
            .position(|waiting| waiting.id == self.id)
        {
            queue.waiting.remove(at);
            self.queue.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        self.queue.grant(queue, &self.key);
        if queue.waiting.is_empty() && queue.running.iter().all(Option::is_none) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn queue() -> (Arc<LoadQueue>, Arc<Generations>) {
        let generations = Arc::new(Generations::new(1024, 1, 1));
        (
            LoadQueue::new(generations.clone(), PolicyIndex(0), &LoadLimits::default()),
            generations,
        )
    }

    fn key(name: &str) -> Key {
        Key::from_stored_name(name)
    }

    impl LoadQueue {
        fn stamp(&self, key: &Key) -> Stamp {
            self.generations
                .stamp(key.hash(), LaneIndex(0), self.policy)
        }

        fn try_now(self: &Arc<Self>, key: &Key) -> Option<Place> {
            self.try_enter(key, self.stamp(key))
        }
    }

    #[tokio::test]
    async fn one_load_of_a_key_runs_at_a_time() {
        let ((queue, _), one, other) = (queue(), key("k:1"), key("k:2"));
        let place = queue.enter(&one, LaneIndex(0), false).await;
        assert!(queue.try_now(&one).is_none() && queue.try_now(&other).is_some());
        let mut waiting = Box::pin(queue.enter(&one, LaneIndex(0), false));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(place);
        let _place = waiting.await;
        assert!(queue.try_now(&one).is_none());
    }

    #[tokio::test]
    async fn outdated_load_leaves_room_for_one_current_one() {
        let ((queue, generations), key) = (queue(), key("k:1"));
        let outdated = queue.try_now(&key).expect("it is the first");
        generations.bump_key(key.hash());
        let current = queue.try_now(&key).expect("the other one is outdated");
        assert!(queue.try_now(&key).is_none(), "one is current");
        generations.bump_key(key.hash());
        assert!(
            queue.try_now(&key).is_none(),
            "both are outdated, and two are the most"
        );
        drop(outdated);
        let _next = queue
            .try_now(&key)
            .expect("the one that is left is outdated");
        drop(current);
        assert!(
            queue.try_now(&key).is_none(),
            "the one that is left is current"
        );
    }

    #[tokio::test]
    async fn load_that_waits_runs_when_the_one_before_it_is_found_outdated() {
        let ((queue, generations), key) = (queue(), key("k:1"));
        let _running = queue.try_now(&key).expect("it is the first");
        let mut waiting = Box::pin(queue.enter(&key, LaneIndex(0), false));
        assert!(waiting.as_mut().now_or_never().is_none());
        generations.bump_key(key.hash());
        queue.recheck(&key);
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn place_goes_to_the_load_that_has_waited_and_not_to_the_first_after_its_end() {
        let ((queue, _), key) = (queue(), key("k:1"));
        let place = queue.enter(&key, LaneIndex(0), false).await;
        let mut waiting = Box::pin(queue.enter(&key, LaneIndex(0), false));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(place);
        assert!(queue.try_now(&key).is_none());
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn overdue_load_goes_before_all_that_are_not() {
        let ((queue, _), key) = (queue(), key("k:1"));
        let place = queue.enter(&key, LaneIndex(0), false).await;
        let mut first = Box::pin(queue.enter(&key, LaneIndex(0), false));
        let mut second = Box::pin(queue.enter(&key, LaneIndex(0), false));
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        let mut overdue = Box::pin(queue.enter(&key, LaneIndex(0), true));
        assert!(overdue.as_mut().now_or_never().is_none());
        drop(place);
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        let place = overdue.as_mut().now_or_never().expect("it is next");
        assert!(first.as_mut().now_or_never().is_none());
        drop(place);
        assert!(second.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn key_that_nobody_loads_is_forgotten() {
        let ((queue, _), key) = (queue(), key("k:1"));
        let place = queue.enter(&key, LaneIndex(0), false).await;
        let mut waiting = Box::pin(queue.enter(&key, LaneIndex(0), false));
        let mut given_up = Box::pin(queue.enter(&key, LaneIndex(0), false));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(place);
        assert_eq!(lock(&queue.keys).len(), 1);
        drop(waiting); // the place was granted to it, and it has not seen it
        assert!(lock(&queue.keys).is_empty());
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
    }
}
