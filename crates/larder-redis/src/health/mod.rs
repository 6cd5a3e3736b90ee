//! The tasks that keep a store's lanes connected, and told of changes.

mod ping;
pub(crate) mod probe;
pub(crate) mod reconnect;
pub(crate) mod subscriber;
