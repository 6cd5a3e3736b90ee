use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use larder_core::Key;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Which keys' loaders run in this process: one at a time for each key, also if an invalidation came between them. Who has
/// waited longest is next, after those who are urgent: a load that asks again and again does not keep another one waiting.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<Queues>>);

/// Each with the number of places in it.
type Queues = HashMap<Key, (usize, Arc<Queue>)>;

/// The right to run the key's loader, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn(Place);

/// A place in the queue of a key, which is there as long as anybody is in it.
#[derive(Debug)]
struct Place {
    turns: Turns,
    key: Key,
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// One permit, which goes to who has waited longest.
    turn: Semaphore,
    /// How many of those who wait are urgent.
    urgent: AtomicUsize,
}

/// One who waits and is urgent.
struct Urgent<'a>(&'a AtomicUsize);

impl Turns {
    /// Takes the key's turn if nobody has it or waits for it.
    pub(crate) fn try_take(&self, key: &Key) -> Option<Turn> {
        let place = self.place(key);
        place.queue.turn.try_acquire().ok()?.forget(); // given back by the turn
        Some(Turn(place))
    }

    /// Takes the key's turn when all who came before have had it. Who is urgent goes before all who are not.
    pub(crate) async fn take(&self, key: &Key, is_urgent: bool) -> Turn {
        let place = self.place(key);
        let queue = place.queue.clone();
        let _urgent = is_urgent.then(|| Urgent::new(&queue.urgent));
        loop {
            let permit = queue.turn.acquire().await;
            if is_urgent || queue.urgent.load(Ordering::SeqCst) == 0 {
                permit.into_iter().for_each(SemaphorePermit::forget); // it is never closed
                return Turn(place);
            }
            // To the end of the queue, after those who are.
        }
    }

    fn place(&self, key: &Key) -> Place {
        let mut queues = self.queues();
        let (places, queue) = queues.entry(key.clone()).or_default();
        *places += 1;
        let queue = queue.clone();
        drop(queues);
        Place { turns: self.clone(), key: key.clone(), queue }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        // Nothing done under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.queue.turn.add_permits(1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        if let Some((places, _)) = queues.get_mut(&self.key) {
            *places -= 1;
            if *places == 0 {
                queues.remove(&self.key);
            }
        }
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { turn: Semaphore::new(1), urgent: AtomicUsize::new(0) }
    }
}

impl<'a> Urgent<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::SeqCst);
        Self(waiting)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn turn_is_one_at_a_time_for_each_key() {
        let (turns, key, other) =
            (Turns::default(), Key::from_stored_name("k:1"), Key::from_stored_name("k:2"));
        let turn = turns.take(&key, false).await;
        assert!(turns.try_take(&key).is_none() && turns.try_take(&other).is_some());
        let waiting = turns.take(&key, false);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(turn);
        let _turn = waiting.await;
        assert!(turns.try_take(&key).is_none());
    }

    #[tokio::test]
    async fn turn_goes_to_who_has_waited_and_not_to_who_comes_first_after_its_end() {
        let (turns, key) = (Turns::default(), Key::from_stored_name("k:1"));
        let turn = turns.take(&key, false).await;
        let mut waiting = Box::pin(turns.take(&key, false));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(turns.try_take(&key).is_none());
        assert!(waiting.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_is_urgent_goes_before_all_who_are_not() {
        let (turns, key) = (Turns::default(), Key::from_stored_name("k:1"));
        let turn = turns.take(&key, false).await;
        let (mut first, mut second) = (Box::pin(turns.take(&key, false)), Box::pin(turns.take(&key, false)));
        let mut urgent = Box::pin(turns.take(&key, true));
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        assert!(urgent.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        let turn = urgent.as_mut().now_or_never().expect("it is next");
        assert!(first.as_mut().now_or_never().is_none());
        drop(turn);
        assert!(second.as_mut().now_or_never().is_none());
        assert!(first.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn key_whose_turn_nobody_wants_is_forgotten() {
        let (turns, key) = (Turns::default(), Key::from_stored_name("k:1"));
        let turn = turns.take(&key, false).await;
        let (mut waiting, mut given_up) =
            (Box::pin(turns.take(&key, false)), Box::pin(turns.take(&key, false)));
        assert!(waiting.as_mut().now_or_never().is_none() && given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(turn);
        assert_eq!(turns.queues().len(), 1);
        drop(waiting); // the turn was handed to it, and it has not seen it
        assert!(turns.queues().is_empty());
    }
}
