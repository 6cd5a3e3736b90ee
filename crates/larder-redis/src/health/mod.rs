//! The tasks that keep a store's lanes connected, and told of changes.

pub(crate) mod failover;
mod ping;
pub(crate) mod probe;
pub(crate) mod reconnect;
mod renewal;
mod shards;
pub(crate) mod subscriber;
pub(crate) mod tasks;
