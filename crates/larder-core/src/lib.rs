//! The kernel of larder: keys, stamps, entries, the traits of the two levels, the codec and the
//! clock. To implement a store for larder, or to use one of its crates alone, you need no other
//! crate of larder.
//!
//! It is not a cache: it holds no policy, names no engine, does no I/O and needs no runtime. The
//! cache is `larder`.
//!
//! ```text
//! key ─▶ KeyBuf (stack) ─▶ LocalStore::get ── entry, stamp current? ─▶ value
//!                               │ no
//!                               ▼
//!                          ValueStore::get ─▶ Codec::decode ─▶ value
//!                               │ absent
//!                               ▼
//!                          LeaseStore::claim … load … LeaseStore::commit
//! ```
//!
//! ```
//! use larder_core::{CacheKey, Generations, KeyBuf, LaneIndex, PolicyIndex};
//!
//! #[derive(CacheKey)]
//! struct PostKey { user: u64, slug: String }
//!
//! let key = KeyBuf::format::<PostKey>("posts", &PostKey { user: 42, slug: "latest".into() });
//! assert_eq!(key.as_str(), "posts:42:latest");
//!
//! let generations = Generations::new(1024, 1, 1);
//! let hash = key.as_ref().hash();
//! let stamp = generations.stamp(hash, LaneIndex::NONE, PolicyIndex(0)); // before the read
//! generations.bump_key(hash); // another caller invalidates the key meanwhile
//! assert!(!generations.is_current(hash, &stamp)); // so the value must not be served
//! ```
//!
//! | feature | adds |
//! | --- | --- |
//! | `uuid` | [`CacheKey`] for `uuid::Uuid` |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod codec;
mod digest;
mod error;
mod finite;
mod generations;
mod header;
mod key;
mod life;
mod local;
mod outbox;
mod remote;
#[doc(hidden)]
pub mod sync;
mod tags;
mod token;

pub use clock::{Clock, ManualClock, Moment};
pub use codec::{Codec, CodecError, JsonCodec};
pub use digest::Digest;
pub use error::StoreError;
pub use generations::{Generations, LaneIndex, PolicyIndex, Stamp};
pub use header::ValueHeader;
pub use key::buf::{CacheKey, KeyBuf};
pub use key::hash::{KeyHash, KeyRef};
pub use key::owned::{Key, KeyError, MAX_KEY_LEN};
pub use larder_derive::CoreCacheKey as CacheKey;
pub use life::{Life, Phase};
pub use local::entry::{AnyValue, Entry};
pub use local::key::{KeptHash, LocalKey, PassThrough};
pub use local::stamped::{LocalMap, Stamped};
pub use local::{Capacity, LocalStore};
pub use outbox::{Outbox, OutboxEntry, OutboxError};
pub use remote::memory::{MemoryRemote, MemoryServer};
pub use remote::types::{
    BreakerState, Claim, Committed, Invalidated, LONGEST_LEASE, LaneState, Push, PushListener,
    RemoteEvent, RemoteStats, Replacing, Stored, Track, Want, WriteClaim,
};
pub use remote::{Lanes, LeaseStore, RemoteStore, TagStore, ValueStore};
pub use tags::{TagCell, TagEpoch, TagStamp, Tags};
pub use token::Token;

/// The trait without the macro of that name, for `larder`, which has a macro of its own.
#[doc(hidden)]
pub mod reexport {
    pub use crate::key::buf::CacheKey;
}

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
