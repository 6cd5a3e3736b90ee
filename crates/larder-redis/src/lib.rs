//! A shared store on Redis or Valkey: values, leases and pushes over a few multiplexed connections. Use it as
//! larder's L2, or with `larder-lock` as a distributed lock.
//!
//! It is not a Redis client: it knows the commands of the coherence protocol and no others.
//!
//! ```text
//! call(key) ─▶ lane = slot(key) % lanes ─▶ its one connection, shared by all callers ─▶ Redis
//!                                                │
//! PushListener ◀── pushes, in order, before any later reply ◀────────┘ CLIENT TRACKING (RESP3)
//! ```
//!
//! In a cluster, which it finds out by itself, each lane has one connection to each master.
//!
//! ```no_run
//! use larder_core::RemoteStore;
//! use larder_redis::{RedisConfig, RedisStore};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder_core::StoreError> {
//! let store = RedisStore::connect(RedisConfig::new("redis://127.0.0.1:6379")).await?;
//! assert_eq!(store.get("user:42").await?, None);
//! # Ok(()) }
//! ```

mod advice;
mod breaker;
mod bulk;
mod bus;
mod clear;
mod config;
mod connector;
mod endpoint;
mod error;
mod keeper;
mod keys;
mod lane;
mod large;
mod live;
mod many;
mod nodes;
mod pending;
mod probe;
mod push;
mod reads;
mod scripts;
mod store;
mod tally;
mod topology;
mod wire;

pub use config::RedisConfig;
pub use store::RedisStore;
