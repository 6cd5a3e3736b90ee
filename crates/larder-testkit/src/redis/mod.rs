//! Private servers, clusters of them, and a connection of a foreign program.

mod certificate;
mod client;
mod cluster;
mod program;
mod sentinel;
mod server;

pub use client::{Client, Reply};
pub use cluster::RedisCluster;
pub use program::{SERVER_VARIABLE, ServerError, find_server, has_tls, no_tracking, version_of};
pub use sentinel::RedisSentinels;
pub use server::{RedisServer, RedisServerBuilder};
