//! The reads of a node.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use larder::Loaded;

use super::{Node, loaded};
use crate::{
    causes::with_causes,
    clock::now,
    database::{DatabaseClient, Request},
    journal::{Line, Read},
    keys::{Key, PolicyName, Versioned},
};

/// The text of failures that are part of the workload.
pub(super) const ON_PURPOSE: &str = "failed on purpose";

impl Node {
    pub(super) async fn read_on(self: Arc<Self>, mut random: fastrand::Rng) {
        while !self.is_stopping() {
            {
                let _running = self.running.read().await;
                for _ in 0..3 {
                    let key = match random.u8(0..4) {
                        0 => Key(self.under_way.load(Ordering::Relaxed)),
                        _ => self.pick(&mut random),
                    };
                    self.read(key, &mut random).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(random.u64(1..8))).await;
        }
    }

    async fn read(&self, key: Key, random: &mut fastrand::Rng) {
        let cache = self.caches.of(key);
        let load = load(&self.database, key);
        let (start, verb) = (now(), random.u8(0..100));
        let read = match verb {
            0..25 => cache.get(key.in_policy()).await,
            25..31 if !self.is_gentle => cache.refresh(key.in_policy(), load).await.map(Some),
            31..45 => return self.read_many(key, random).await,
            45..65 => {
                let revalidate = revalidate(&self.database, key);
                cache
                    .get_or_revalidate(key.in_policy(), revalidate)
                    .await
                    .map(Some)
            }
            _ => cache.get_or_load(key.in_policy(), load).await.map(Some),
        };
        self.say_read(key, read.map_err(|error| with_causes(&error)), start, verb);
    }

    fn say_read(
        &self,
        key: Key,
        read: Result<Option<Arc<Versioned>>, String>,
        start: u64,
        verb: u8,
    ) {
        let end = now();
        self.say(match read {
            Ok(Some(value)) if value.key != key => {
                Line::ReadFailed(format!("{key} was given the value of {}", value.key))
            }
            // The conductor knows which node this is.
            Ok(Some(value)) => Line::Read(Read {
                node: 0,
                key,
                version: value.version,
                start,
                end,
                refresh: (25..31).contains(&verb) && !self.is_gentle,
                heard: None,
            }),
            Ok(None) => Line::Missed,
            Err(error) if error.contains(ON_PURPOSE) => Line::Missed,
            Err(error) => Line::ReadFailed(error),
        });
    }

    /// Reads several keys of the key's policy in one call, with or without a loader.
    async fn read_many(&self, key: Key, random: &mut fastrand::Rng) {
        let cache = self.caches.of(key);
        let others = (0..random.u8(0..8)).map(|_| Key::pick(self.namespace, key.policy(), random));
        let mut keys: Vec<u16> = others.map(Key::in_policy).collect();
        keys.push(key.in_policy());
        keys.sort_unstable();
        keys.dedup();
        let database = self.database.clone();
        let named = move |in_policy| Key::of(key.namespace(), key.policy(), in_policy);
        let load_many = move |keys: Vec<u16>| async move {
            let mut values = HashMap::new();
            for in_policy in keys {
                let key = named(in_policy);
                values.insert(in_policy, load(&database, key)().await?);
            }
            Ok::<_, io::Error>(values)
        };
        let start = now();
        let read = match random.u8(0..3) {
            0 => cache.get_many(&keys).await,
            _ => cache.get_or_load_many(&keys, load_many).await,
        };
        match read {
            Ok(values) => {
                for (in_policy, value) in values {
                    self.say_read(named(in_policy), Ok(Some(value)), start, 100);
                }
            }
            Err(error) => self.say_read(key, Err(with_causes(&error)), start, 100),
        }
    }
}

/// A loader of a key. Loads of values that may be stale fail now and then.
fn load(
    database: &Arc<DatabaseClient>,
    key: Key,
) -> impl FnOnce() -> futures::Load + Send + 'static + use<> {
    let database = database.clone();
    move || {
        Box::pin(async move {
            if key.policy() == PolicyName::Stale && fastrand::u8(0..16) == 0 {
                return Err(io::Error::other(ON_PURPOSE));
            }
            let version = database.ask(Request::Read, key, now()).await?;
            Ok(loaded(key, version))
        })
    }
}

/// A loader that finds a value unchanged.
fn revalidate(
    database: &Arc<DatabaseClient>,
    key: Key,
) -> impl FnOnce(Option<Arc<Versioned>>) -> futures::Load + Send + 'static + use<> {
    let database = database.clone();
    move |previous| {
        Box::pin(async move {
            let version = database.ask(Request::Read, key, now()).await?;
            let is_same = previous.is_some_and(|previous| previous.version == version);
            Ok(if is_same {
                Loaded::not_modified()
            } else {
                loaded(key, version)
            })
        })
    }
}

mod futures {
    use std::{io, pin::Pin};

    use larder::Loaded;

    use crate::keys::Versioned;

    /// A load under way.
    pub(super) type Load = Pin<Box<dyn Future<Output = io::Result<Loaded<Versioned>>> + Send>>;
}
