//! The stampede lock: one load of a key at a time, across the tasks of a process (single flight)
//! and across processes (leases), over any [`RemoteStore`](larder_core::RemoteStore). Its parts are
//! useful alone: [`SharedBytes`] keeps values as bytes, a [`LeaseLock`] is a distributed lock,
//! [`Flights`] is a single-flight table.
//!
//! It is not a cache: it keeps no values of its own and decides no lifetimes; the facade `larder`
//! does. A lease is a time-limited right. A process that was paused for longer than its lease may
//! still believe that it holds it, so two processes can act as holders for a moment. Do not guard
//! with it what cannot bear that.
//!
//! ```text
//! StampedeLock::get_or_load
//!   ├─ a flight of this process is under way ──▶ wait for it
//!   └─ lead a flight: GET ─▶ claim ─┬─ Hit ────▶ accept
//!                                   ├─ Leased ─▶ load, renewing the lease ─▶ write back
//!                                   └─ Busy ───▶ sleep until the lease's end, claim again
//! ```
//!
//! A lock for what the remote store does not hold:
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use larder_core::{Clock, Key, MemoryServer};
//! use larder_lock::LeaseLock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = MemoryServer::new(Clock::system()); // or a `RedisStore`
//! let lock = LeaseLock::new(Arc::new(server.connect()), Duration::from_secs(10));
//! let key = Key::from_stored_name("jobs:nightly-report");
//!
//! let lease = lock.acquire(&key, Duration::from_secs(5)).await?; // it renews itself
//! assert!(lock.try_acquire(&key).await?.is_none());
//! lease.release().await?;
//! assert!(lock.try_acquire(&key).await?.is_some());
//! # Ok(()) }
//! ```
//!
//! It has no features.

mod bytes;
mod flights;
mod lease;
mod lock;
mod nesting;
mod renewal;
mod stampede;
mod sync;
mod tag_epochs;
mod untracked;
mod waiters;

pub use bytes::{SharedBytes, SharedError};
pub use flights::{Flights, Follower, Joined, Leader, ReadSeq};
pub use lease::{Claimed, Lease, Leases, WriteBegun};
pub use lock::{LeaseLock, LockError};
pub use nesting::{Cycle, Nesting, Waiting, Work, carry};
pub use stampede::{
    LoadLimits, LoadPermit, Request, StampedeConfig, StampedeLock,
    caller::{
        Accepting, Aging, CutOff, Event, Failure, LoadError, Loader, Lookup, Outcome, Reader,
    },
    write_back::{Commit, Destination, Kept, Refusal, WrittenBack},
};
pub use tag_epochs::TagEpochs;
pub use waiters::{Waiter, Waiters};

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
