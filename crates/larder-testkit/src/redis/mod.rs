//! Private servers, clusters of them, and a connection of a foreign program.

mod certificate;
mod client;
mod cluster;
mod program;
mod server;

pub use client::{Client, Reply};
pub use cluster::RedisCluster;
pub use program::{ServerError, find_server};
pub use server::{RedisServer, RedisServerBuilder};
