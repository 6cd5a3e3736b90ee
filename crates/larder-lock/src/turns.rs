use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::Key;
use tokio::sync::{Notify, futures::OwnedNotified};

/// Which keys' loaders run in this process: one at a time for each key, also if an invalidation came between them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<Key, Arc<Notify>>>>);

/// The right to run the key's loader, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    key: Key,
    ended: Arc<Notify>,
}

impl Turns {
    /// Takes the key's turn if nobody has it.
    pub(crate) fn try_take(&self, key: &Key) -> Option<Turn> {
        self.take_or_wait(key).ok()
    }

    /// Takes the key's turn as soon as nobody has it.
    pub(crate) async fn take(&self, key: &Key) -> Turn {
        loop {
            match self.take_or_wait(key) {
                Ok(turn) => return turn,
                Err(ended) => ended.await,
            }
        }
    }

    fn take_or_wait(&self, key: &Key) -> Result<Turn, OwnedNotified> {
        match self.running().entry(key.clone()) {
            // Made under the lock, so that an end which comes before it is waited for is not missed.
            Entry::Occupied(running) => Err(running.get().clone().notified_owned()),
            Entry::Vacant(free) => {
                let ended = free.insert(Arc::default()).clone();
                Ok(Turn { turns: self.clone(), key: key.clone(), ended })
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<Key, Arc<Notify>>> {
        // Nothing done under this lock can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.running().remove(&self.key);
        self.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn turn_is_one_at_a_time_for_each_key() {
        let (turns, key, other) = (Turns::default(), Key::from("k:1"), Key::from("k:2"));
        let turn = turns.take(&key).await;
        assert!(turns.try_take(&key).is_none() && turns.try_take(&other).is_some());
        let waiting = turns.take(&key);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(turn);
        let _turn = waiting.await;
        assert!(turns.try_take(&key).is_none());
    }
}
