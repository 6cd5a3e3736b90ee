//! The writes of a process.

use std::io;

use larder::{Error, Loaded};
use larder_chaos::{Key, PolicyName};

use super::{Node, Versioned, loaded, on_purpose, unless_dropped};
use crate::{
    names::keys,
    time::{note, pause},
};

/// The way in which a program invalidates by hand.
#[derive(Clone, Copy, Debug)]
enum ByHand {
    Key,
    Tag,
    Clear,
    ClearAll,
}

impl Node {
    pub(super) async fn write(&self, key: Key) {
        let verb = fastrand::u8(0..16);
        note(|| format!("{self} writes {key}, verb {verb}"));
        match (key.policy(), verb) {
            // Only the foreign program writes them: this makes room for a load.
            (PolicyName::Foreign | PolicyName::Guest, _) => {
                let done = unless_dropped(self.cache(key.policy()).invalidate(key.in_policy()));
                if let Some(Err(error)) = done.await {
                    self.has_failed(key, &error);
                }
            }
            (_, 0..5) => self.write_through(key, false).await,
            (_, 5) => self.write_through(key, true).await,
            (_, 6..9) => self.write_around(key).await,
            (_, 9..12) => self.write_by_hand(key, ByHand::Key).await,
            (_, 12) => self.write_by_hand(key, ByHand::Clear).await,
            (_, 13) => self.write_by_hand(key, ByHand::ClearAll).await,
            _ => self.write_by_hand(key, ByHand::Tag).await,
        }
        self.tell();
    }

    /// Writes through. A write may say that it failed, though it did not.
    async fn write_through(&self, key: Key, fails: bool) {
        let (database, commit) = (self.database.clone(), self.commit(false));
        let writer = move || async move {
            let version = database.write(key, commit).await;
            let written: io::Result<Loaded<Versioned>> = match fails {
                true => Err(on_purpose()),
                false => Ok(loaded(key, version)),
            };
            written
        };
        let cache = self.cache(key.policy());
        match unless_dropped(cache.write_through(key.in_policy(), writer)).await {
            None => note(|| format!("{self} drops its write of {key}")),
            Some(Ok(value)) => self.has_written(key, value.version),
            Some(Err(error)) => self.has_failed(key, &error),
        }
    }

    async fn write_around(&self, key: Key) {
        let (database, commit) = (self.database.clone(), self.commit(false));
        let writer = move || async move { Ok::<_, io::Error>(database.write(key, commit).await) };
        let cache = self.cache(key.policy());
        match unless_dropped(cache.write_around(key.in_policy(), writer)).await {
            None => note(|| format!("{self} drops its write of {key}")),
            Some(Ok(version)) => self.has_written(key, version),
            Some(Err(error)) => self.has_failed(key, &error),
        }
    }

    /// Writes the database as a program does that invalidates by itself.
    async fn write_by_hand(&self, key: Key, by: ByHand) {
        let commit = self.commit(true);
        let tag = key.tag();
        let mut written = Vec::new();
        let of_call = keys(key.policy()).take(self.setup.keys);
        for other in of_call {
            let is_meant = match by {
                ByHand::Key => other == key,
                ByHand::Tag if tag.is_none() => other == key,
                ByHand::Tag => other.tag() == tag,
                ByHand::Clear | ByHand::ClearAll => true,
            };
            if is_meant && (other == key || fastrand::bool()) {
                written.push((other, self.database.write(other, commit).await));
            }
        }
        let cache = self.cache(key.policy());
        let done = match (by, tag) {
            (ByHand::Tag, Some(tag)) => unless_dropped(self.larder.invalidate_tag(&tag)).await,
            // A clear that fails has to be made good, so it is not dropped.
            (ByHand::Clear, _) => Some(cache.clear().await),
            (ByHand::ClearAll, _) => Some(self.larder.clear().await),
            _ => unless_dropped(cache.invalidate(key.in_policy())).await,
        };
        match done {
            None => note(|| format!("{self} drops its invalidation by {by:?}")),
            Some(Ok(())) => {
                for (key, version) in written {
                    self.has_written(key, version);
                }
            }
            Some(Err(error)) => self.make_good(&written, &error).await,
        }
    }

    /// Invalidates each key after a clear that failed.
    async fn make_good(&self, written: &[(Key, u32)], error: &Error) {
        note(|| format!("{self} could not clear: {error}"));
        for (key, version) in written {
            pause(20).await;
            match self.cache(key.policy()).invalidate(key.in_policy()).await {
                Ok(()) => self.has_written(*key, *version),
                Err(error) => self.has_failed(*key, &error),
            }
        }
    }
}
