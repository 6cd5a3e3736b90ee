//! The stampede lock: one load of a key at a time, across the tasks of a process (single flight) and across
//! processes (leases), over any [`RemoteStore`](larder_core::RemoteStore). Its parts are useful alone: a
//! [`LeaseLock`] is a distributed lock, [`Flights`] is a single-flight table.
//!
//! It keeps no values of its own and decides no lifetimes; the facade `larder` does. A lease is a time-limited right:
//! a lock that fences nothing else must not guard what cannot bear two holders after a pause of one of them.
//!
//! ```text
//! StampedeLock::get_or_load
//!   ├─ this process already loads the key ──▶ wait for that flight
//!   └─ lead a flight: GET ─▶ claim ─┬─ Hit ────▶ accept
//!                                   ├─ Leased ─▶ load, renewing the lease ─▶ commit
//!                                   └─ Busy ───▶ sleep until the push or the lease's end, claim again
//! ```
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use larder_core::{Clock, Key, MemoryServer};
//! use larder_lock::LeaseLock;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = MemoryServer::new(Clock::system()); // or a `RedisStore`
//! let lock = LeaseLock::new(Arc::new(server.connect()), Duration::from_secs(10));
//! let key = Key::from_stored_name("jobs:nightly-report");
//!
//! let lease = lock.acquire(&key, Duration::from_secs(5)).await?; // renewed until it is released or dropped
//! assert!(lock.try_acquire(&key).await?.is_none());
//! lease.release().await?;
//! assert!(lock.try_acquire(&key).await?.is_some());
//! # Ok(()) }
//! ```

mod flights;
mod lease;
mod load;
mod loading;
mod lock;
mod many;
mod pauses;
mod stampede;
mod turns;
mod waiters;

pub use flights::{Asked, Flights, Joined, Lead, Ticket};
pub use lease::{Claimed, Lease, Leases, WriteBegun};
pub use load::{Encoded, Failure, Kept, Load, Look, Present, Refusal};
pub use lock::{LeaseLock, LockError};
pub use stampede::{LoadLimits, Slot, StampedeLock};
pub use waiters::{Waiter, Waiters};
