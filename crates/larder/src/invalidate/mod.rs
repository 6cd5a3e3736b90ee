//! Invalidations in every level: of keys, of tags, and of whole policies.

pub(crate) mod clear;
pub(crate) mod l1_listener;

use std::sync::Arc;

use futures_util::future::join_all;
use larder_core::{Key, StoreError};

use crate::{Error, process::Process};

/// 1,024: so many invalidations of one call are under way at once.
const AT_ONCE: usize = 1024;

/// Invalidates keys in a task of its own, so that the replies are handled also when the caller is
/// gone.
pub(crate) async fn invalidate_keys(process: &Arc<Process>, keys: Vec<Key>) -> Result<(), Error> {
    let (process, lifecycle) = (process.clone(), process.lifecycle.clone());
    let name = keys.first().map(Key::to_string).unwrap_or_default();
    let invalidated = lifecycle.spawn(async move {
        let mut done = Ok(());
        for chunk in keys.chunks(AT_ONCE) {
            for one in join_all(chunk.iter().map(|key| invalidate_key(&process, key))).await {
                done = done.and(one);
            }
        }
        done
    })?;
    invalidated
        .await
        .map_err(|_| Error::Aborted { key: name })?
}

async fn invalidate_key(process: &Process, key: &Key) -> Result<(), Error> {
    // At once here, however long L2 takes to answer; and again after the reply, because a read in
    // between could bring the value back.
    process.invalidate_locally(key);
    let done = match &process.leases {
        Some(leases) => leases.invalidate(key).await.map(|_| ()),
        None => Ok(()),
    };
    process.invalidate_locally(key); // P9 reply-invalidates-again: whatever the reply was
    done.map_err(|error| Error::store(key, error))
}

/// Invalidates a tag, given by its full name: at once here, and again after the reply.
pub(crate) async fn invalidate_tag(process: &Process, name: &str) -> Result<(), StoreError> {
    process.tags.invalidate(name);
    let done = match &process.leases {
        Some(leases) => leases.remote().invalidate_tag(name).await.map(|_| ()),
        None => Ok(()),
    };
    process.tags.invalidate(name); // P9 reply-invalidates-again: whatever the reply was
    done
}
