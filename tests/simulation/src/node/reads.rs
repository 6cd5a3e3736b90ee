//! The reads of a process.

use std::{collections::HashMap, io, sync::Arc};

use larder::Loaded;
use larder_chaos::{Key, Read, with_causes};

use super::{Node, Versioned, loaded, unless_dropped};
use crate::{
    database::DatabaseClient,
    names::keys,
    time::{note, now},
};

/// The moments of a read before it begins.
#[derive(Clone, Copy)]
struct Asked {
    start: u64,
    heard: u64,
    refresh: bool,
}

impl Node {
    pub(super) async fn read(&self, key: Key) {
        let (cache, place) = (self.cache(key.policy()), key.in_policy());
        let load = load(&self.database, key);
        let verb = fastrand::u8(0..16);
        let asked = self.asks(key, (8..10).contains(&verb));
        note(|| format!("{self} reads {key}, verb {verb}"));
        let read = match verb {
            0..4 => unless_dropped(cache.get(place)).await,
            4..8 => {
                let revalidate = revalidate(&self.database, key);
                let read = cache.get_or_revalidate(place, revalidate);
                unless_dropped(read).await.map(|read| read.map(Some))
            }
            8..10 => {
                let read = unless_dropped(cache.refresh(place, load)).await;
                read.map(|read| read.map(Some))
            }
            10..12 => return self.read_many(key).await,
            _ => {
                let read = unless_dropped(cache.get_or_load(place, load)).await;
                read.map(|read| read.map(Some))
            }
        };
        match read {
            None => note(|| format!("{self} drops its read of {key}")),
            Some(Ok(None)) => note(|| format!("{self} finds nothing for {key}")),
            Some(Ok(Some(value))) => self.is_given(key, &value, asked),
            Some(Err(error)) => self.has_failed(key, &error),
        }
    }

    fn asks(&self, key: Key, refresh: bool) -> Asked {
        let start = now();
        let heard = self.heard(key, start);
        Asked {
            start,
            heard,
            refresh,
        }
    }

    fn is_given(&self, key: Key, value: &Versioned, asked: Asked) {
        let (end, version) = (now(), value.version);
        note(|| format!("{self} is given version {version} of {key}"));
        let mut entries = self.journal.entries();
        if value.key != key {
            let failure = format!("{self}: {key} was given the value of {}", value.key);
            entries.failures.push(failure);
        }
        entries.reads.push(Read {
            node: self.number,
            key,
            version,
            start: asked.start,
            end,
            refresh: asked.refresh,
            heard: Some(asked.heard),
        });
    }

    /// Reads all keys of the key's policy in one call, with or without a loader.
    async fn read_many(&self, key: Key) {
        let cache = self.cache(key.policy());
        let keys: Vec<Key> = keys(key.policy()).take(self.setup.keys).collect();
        let places: Vec<u16> = keys.iter().map(|key| key.in_policy()).collect();
        let asked: Vec<Asked> = keys.iter().map(|key| self.asks(*key, false)).collect();
        let load = load_many(&self.database, key);
        let read = match fastrand::u8(0..3) {
            0 => unless_dropped(cache.get_many(&places)).await,
            _ => unless_dropped(cache.get_or_load_many(&places, load)).await,
        };
        match read {
            None => {}
            Some(Ok(values)) => {
                for (key, asked) in keys.iter().zip(asked) {
                    if let Some(value) = values.get(&key.in_policy()) {
                        self.is_given(*key, value, asked);
                    }
                }
            }
            Some(Err(error)) => {
                note(|| format!("{self} fails: {}", with_causes(&error)));
                self.has_failed(key, &error);
            }
        }
    }
}

mod futures {
    use std::{io, pin::Pin};

    /// A load under way.
    pub(super) type Load<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;
}

/// A loader of a key.
fn load(
    database: &DatabaseClient,
    key: Key,
) -> impl FnOnce() -> futures::Load<Loaded<Versioned>> + Send + 'static + use<> {
    let database = database.clone();
    move || Box::pin(async move { Ok(loaded(key, database.read(key).await?)) })
}

/// A loader that finds a value unchanged.
fn revalidate(
    database: &DatabaseClient,
    key: Key,
) -> impl FnOnce(Option<Arc<Versioned>>) -> futures::Load<Loaded<Versioned>> + Send + 'static + use<>
{
    let database = database.clone();
    move |previous| {
        Box::pin(async move {
            let version = database.read(key).await?;
            let is_same = previous.is_some_and(|previous| previous.version == version);
            Ok(if is_same {
                Loaded::not_modified()
            } else {
                loaded(key, version)
            })
        })
    }
}

type ManyLoaded = HashMap<u16, Loaded<Versioned>>;

/// A loader of many keys of this key's policy.
fn load_many(
    database: &DatabaseClient,
    key: Key,
) -> impl FnOnce(Vec<u16>) -> futures::Load<ManyLoaded> + Clone + Send + 'static + use<> {
    let database = database.clone();
    move |mut places: Vec<u16>| {
        places.sort_unstable(); // a map has them in any order
        Box::pin(async move {
            let mut values = HashMap::new();
            for place in places {
                let key = Key::of(key.namespace(), key.policy(), place);
                values.insert(place, loaded(key, database.read(key).await?));
            }
            Ok::<_, io::Error>(values)
        })
    }
}
