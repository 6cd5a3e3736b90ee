//! A shared cache store on Redis or Valkey: values, leases and invalidation pushes over a few
//! multiplexed connections. Use it as the second level (L2) of `larder`, or with `larder-lock` as a
//! distributed lock.
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
//! use larder_core::ValueStore;
//! use larder_redis::{RedisConfig, RedisStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), larder_core::StoreError> {
//! let store = RedisStore::connect(RedisConfig::new("redis://127.0.0.1:6379")).await?;
//! assert_eq!(store.get("user:42").await?, None);
//! # Ok(()) }
//! ```
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | `tls` | yes | `rediss://` and `valkeys://` addresses, by rustls |
//! | `tls-ring` | yes | the cryptography of `ring`, for a process that has not chosen any |
//! | `tls-aws-lc-rs` | no | the cryptography of `aws-lc-rs` instead |
//! | `tls-rustls` | no | TLS for a process that installs a rustls provider of its own |

#![cfg_attr(docsrs, feature(doc_cfg))]

pub use config::{RedisConfig, coherence::Coherence};
pub use credentials::{Credentials, CredentialsProvider};
pub use redo::choice::OnDataLoss;
pub use rights::{Named, RIGHTS, Right, rights_in_markdown};
pub use store::RedisStore;

mod advice;
mod breaker;
mod command;
mod config;
mod connection;
mod credentials;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(test)]
mod garbage;
mod health;
mod lane;
mod listeners;
mod redo;
mod rights;
mod stats;
mod store;

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
