use std::collections::{HashMap, HashSet};

use deadpool_redis::redis::RedisError;
use futures_util::future::join_all;
use larder_core::Token;
use tracing::error;

use crate::{keys::ORDER, live::Live, scripts};

/// What a lane could not send: it is sent before anything is read through the lane again.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Keys to invalidate, with the lease that ends with it, if there is one.
    keys: HashMap<String, Option<Token>>,
    tags: HashSet<String>,
}

/// How many are sent at once.
const BATCH: usize = 1024;

impl Pending {
    pub(crate) fn len(&self) -> usize {
        self.keys.len() + self.tags.len()
    }

    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    pub(crate) fn has_tag(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }

    pub(crate) fn add_key(&mut self, key: &str, own: Option<&Token>) {
        // The first lease stays: while the lane is down, no later one can have been taken.
        let ends = self.keys.entry(key.to_owned()).or_default();
        *ends = ends.take().or_else(|| own.cloned());
    }

    pub(crate) fn add_tag(&mut self, tag: &str) {
        self.tags.insert(tag.to_owned());
    }

    /// Sends everything. An error leaves what was not done.
    // P11: before anything is read through the lane.
    pub(crate) async fn drain(&mut self, on: &Live) -> Result<(), RedisError> {
        while !self.keys.is_empty() {
            let batch: Vec<_> =
                self.keys.iter().take(BATCH).map(|(key, own)| (key.clone(), own.clone())).collect();
            let sent = batch.iter().map(|(key, own)| scripts::invalidate(on.wire(key), key, own.as_ref()));
            let sent = join_all(sent).await;
            settle(sent.into_iter().zip(batch.iter().map(|(key, _)| key)), |key| {
                self.keys.remove(key);
            })?;
        }
        while !self.tags.is_empty() {
            let batch: Vec<_> = self.tags.iter().take(BATCH).cloned().collect();
            let sent = join_all(batch.iter().map(|tag| scripts::invalidate_tag(on.wire(ORDER), tag))).await;
            settle(sent.into_iter().zip(&batch), |tag| {
                self.tags.remove(tag);
            })?;
        }
        Ok(())
    }
}

/// Forgets what is done, or would be refused again, and returns the last error if anything is left.
fn settle<'a>(
    sent: impl Iterator<Item = (Result<(), RedisError>, &'a String)>,
    mut forget: impl FnMut(&str),
) -> Result<(), RedisError> {
    let mut left = Ok(());
    for (sent, name) in sent {
        match sent {
            Err(error) if error.code() == Some("NOPERM") => {
                error!(%name, %error, "a key or tag cannot be invalidated, now or later");
            }
            // Of another type, there is nothing of ours.
            Err(error) if error.code() != Some("WRONGTYPE") => {
                left = Err(error);
                continue;
            }
            Err(_) | Ok(()) => {}
        }
        forget(name);
    }
    left
}
