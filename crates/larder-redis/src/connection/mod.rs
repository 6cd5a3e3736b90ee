//! Connections to a server, or to each master of a cluster: how they are opened, and what travels
//! over them.

pub(crate) mod addresses;
pub(crate) mod bus;
pub(crate) mod dialer;
pub(crate) mod endpoint;
pub(crate) mod handshake;
pub(crate) mod identity;
pub(crate) mod large_value_pool;
pub(crate) mod probe_key;
pub(crate) mod read_batch;
pub(crate) mod sentinel;
pub(crate) mod sentinel_url;
pub(crate) mod server_push;
pub(crate) mod session;
pub(crate) mod shards;
pub(crate) mod slot_map;
#[cfg(feature = "tls-rustls")]
pub(crate) mod tls;
