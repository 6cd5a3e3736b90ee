//! A multi-level cache for Rust services: an in-process L1 in front of a shared Redis L2 in front
//! of the database. A hot read costs what a local cache costs. A cold key costs one load, however
//! many callers and processes want it. Once a write has returned, its own process reads the new
//! value, and every other process reads it as soon as Redis' push arrives there.
//!
//! It is not a database: every value must be loadable again. It is not for values that must be read
//! linearizably across processes; for these, use a policy with `levels = "l2"`, or read the
//! database.
//!
//! ```text
//! get_or_load(key)
//!   ├─▶ L1: entry before its deadline, all stamps current ────────────▶ value
//!   ├─▶ a flight of this process is under way ────────────── wait ────▶ value
//!   ├─▶ L2: GETRANGE + PTTL, tracked by the server ──── fill L1 ──────▶ value
//!   └─▶ claim the lease ─┬─ another process loads ── sleep until pushed, look again
//!                        └─ load from the database ── commit ── fill L1 ──▶ value
//! ```
//!
//! ```
//! use std::{io, sync::Arc};
//! use larder::{Cache, Larder};
//!
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct User { name: String }
//! # async fn find(id: u64) -> io::Result<User> { Ok(User { name: format!("user {id}") }) }
//! # async fn rename(_: u64, name: &str) -> io::Result<User> { Ok(User { name: name.to_owned() }) }
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
//! let larder = Larder::builder().build().await?; // `.redis("redis://…")` adds the L2
//! let users: Cache<u64, User> = larder.cache("user_profile")?; // a policy of the TTL table
//!
//! // L1, else L2, else the database.
//! let user: Arc<User> = users.get_or_load(42, || find(42)).await?;
//! assert_eq!(user.name, "user 42");
//!
//! // The database and both levels.
//! users.write_through(42, || rename(42, "Ada")).await?;
//! assert_eq!(users.get(42).await?.unwrap().name, "Ada");
//! # Ok(()) }
//! ```
//!
//! | feature | adds |
//! | --- | --- |
//! | `redis` (default) | an L2 on Redis: `LarderBuilder::redis` |
//! | `tls` (default) | `rediss://` addresses, by rustls with the cryptography of ring |
//! | `tls-aws-lc-rs` | in place of `tls`: the cryptography of aws-lc-rs |
//! | `tls-rustls` | in place of `tls`: the process installs a rustls provider of its own |
//! | `moka` (default) | `L1Store::Moka`: an L1 on moka |
//! | `quick` | `L1Store::Quick`: an L1 on quick_cache, whose hits take a fraction of the time |
//! | `metrics` | counters and gauges of the `metrics` crate with the numbers of [`Larder::stats`], updated once a second |
//! | `uuid` | keys that are `uuid::Uuid` |
//! | `testing` | `MemoryServer`, an L2 without a server, and `ManualClock`, for tests of applications |
//!
//! Without `redis`, [`LarderBuilder::remote_store`] takes the L2. The module [`remote`] has the
//! traits that a store implements.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod assembly;
mod background;
mod builder;
mod cache;
mod connect;
mod error;
mod invalidate;
mod l1;
mod larder;
mod observe;
mod outbox;
mod policy;
mod process;
mod read;
mod runtime;
mod value;
mod write;

pub use builder::LarderBuilder;
pub use cache::{Cache, loading::LoadingCache};
pub use error::{Error, SharedError};
pub use l1::L1Store;
pub use larder::Larder;
pub use larder_core::reexport::CacheKey;
pub use larder_core::{
    BreakerState, CodecError, Key, KeyBuf, KeyError, Outbox, OutboxEntry, OutboxError, RemoteStore,
    StoreError,
};
#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use larder_core::{Clock, ManualClock, MemoryRemote, MemoryServer};
pub use larder_derive::CacheKey;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use larder_redis::{Coherence, Credentials, CredentialsProvider, OnDataLoss, RedisConfig};
pub use larder_ttl::{Advice, Levels, OnOutage, Policy, TableError, TtlTable};
pub use observe::{Event, Level, LoadOutcome, Stats};
pub use value::{BoxError, LoadManyResult, LoadResult, Loaded, Value};

/// The traits of a remote store, and their types, for an L2 other than Redis. `larder-testkit` has
/// the suite that each implementation must pass.
pub mod remote {
    pub use larder_core::{
        BreakerState, Claim, Committed, Digest, Invalidated, Key, LaneIndex, LaneState, Lanes,
        LeaseStore, Push, PushListener, RemoteEvent, RemoteStats, RemoteStore, Replacing,
        StoreError, Stored, TagEpoch, TagStore, Token, ValueStore, Want, WriteClaim,
    };
}

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// The example of the README at the root.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct RootReadme;
