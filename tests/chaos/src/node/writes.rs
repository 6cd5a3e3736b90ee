//! The writes of a node.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use larder::Loaded;

use super::{Node, loaded, reads::ON_PURPOSE};
use crate::{
    causes::with_causes,
    clock::now,
    database::Request,
    journal::{Line, Write},
    keys::{Key, PolicyName, Versioned},
};

/// The number of reads around the sending of an invalidation.
const AHEAD: usize = 48;

impl Node {
    pub(super) async fn write_on(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.is_stopping() {
            {
                let _running = self.running.read().await;
                let key = self.pick(&mut random);
                self.under_way.store(key.0, Ordering::Relaxed);
                match key.policy() {
                    PolicyName::Foreign | PolicyName::Guest => self.forget(key).await,
                    _ => self.write(key, &mut random).await,
                }
                self.tell();
            }
            let pause = if self.is_gentle { 40..120 } else { 2..14 };
            tokio::time::sleep(Duration::from_millis(random.u64(pause))).await;
        }
        // What could not be sent is sent once the node is connected again, or the conductor gives
        // up.
        while !self.tell() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Makes room for a load of a value that the foreign program writes.
    async fn forget(&self, key: Key) {
        if let Err(error) = self.caches.of(key).invalidate(key.in_policy()).await {
            self.say_failed(&error);
        }
    }

    async fn write(self: &Arc<Self>, key: Key, random: &mut fastrand::Rng) {
        let (cache, database) = (self.caches.of(key), self.database.clone());
        let asked = now();
        let writer = move || async move { database.ask(Request::Write, key, asked).await };
        let written = match (random.u8(0..100), key.tag()) {
            (0..40, _) => {
                let writer =
                    move || async move { writer().await.map(|version| loaded(key, version)) };
                cache
                    .write_through(key.in_policy(), writer)
                    .await
                    .map(|value| vec![(key, value.version)])
            }
            (40..60, _) => cache
                .write_around(key.in_policy(), writer)
                .await
                .map(|version| vec![(key, version)]),
            (60..66, _) => {
                let writer = move || async move {
                    let _version = writer().await?;
                    Err::<Loaded<Versioned>, _>(io::Error::other(ON_PURPOSE))
                };
                cache
                    .write_through(key.in_policy(), writer)
                    .await
                    .map(|_| Vec::new())
            }
            (66..68, _) if !self.is_gentle => self.write_then(&[key], cache.clear()).await,
            (68..84, Some(tag)) => {
                let mut keys = vec![key];
                keys.extend((0..3).map(|_| key.neighbour(random)));
                keys.sort_unstable();
                keys.dedup();
                self.write_then(&keys, self.larder.invalidate_tag(&tag))
                    .await
            }
            _ => {
                self.write_then(&[key], cache.invalidate(key.in_policy()))
                    .await
            }
        };
        let returned = now();
        match written {
            Ok(written) => {
                let write = |(key, version)| Write {
                    node: None,
                    key,
                    version,
                    returned,
                    told: None,
                };
                self.untold().extend(written.into_iter().map(write));
            }
            Err(error) => self.say_failed(&error),
        }
    }

    fn say_failed(&self, error: &larder::Error) {
        // Without the key, so that equal failures are counted together.
        let text = with_causes(error);
        let text = error
            .key()
            .map_or(text.clone(), |key| text.replace(key, "a key"));
        self.say(Line::WriteFailed(text));
    }

    /// Writes the database as a program does that invalidates by hand, while the key is read.
    async fn write_then(
        self: &Arc<Self>,
        keys: &[Key],
        invalidate: impl Future<Output = Result<(), larder::Error>>,
    ) -> Result<Vec<(Key, u32)>, larder::Error> {
        let mut written = Vec::new();
        for key in keys {
            match self.database.ask(Request::WriteByHand, *key, now()).await {
                Ok(version) => written.push((*key, version)),
                Err(error) => self.say(Line::WriteFailed(with_causes(&error))),
            }
        }
        let reading = tokio::spawn(self.clone().read_ahead(keys[0]));
        let invalidated = invalidate.await;
        reading.abort();
        invalidated.map(|()| written)
    }

    /// Brings a value back into L1, if a read comes before the invalidation that is under way.
    async fn read_ahead(self: Arc<Self>, key: Key) {
        let cache = self.caches.of(key);
        let reads = if self.is_gentle { 0 } else { AHEAD };
        for _ in 0..reads {
            // Other reads tell what was found.
            let _ = cache.get(key.in_policy()).await;
            tokio::task::yield_now().await;
        }
    }
}
