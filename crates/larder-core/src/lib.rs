//! What the larder crates share: the traits of the two levels, keys, entries, stamps, the codec and the clock.
//! Whoever writes a store for larder, or uses one of its crates alone, needs this crate and no other.
//!
//! It is not a cache: it holds no policy, names no engine, does no I/O and needs no runtime. The facade is `larder`.
//!
//! ```text
//! key ─▶ KeyBuf (stack) ─▶ LocalStore::get ── entry, stamp current? ─▶ value
//!                               │ no
//!                               ▼
//!                          RemoteStore::get ─▶ Codec::decode ─▶ value
//!                               │ absent
//!                               ▼
//!                          RemoteStore::claim … load … RemoteStore::commit
//! ```
//!
//! ```
//! use larder_core::{Generations, KeyBuf};
//!
//! let cells = Generations::new(1024, 1, 1);
//! let key = KeyBuf::format::<(u64, String)>("user", &(42, "posts"));
//! assert_eq!(key.as_str(), "user:42:posts");
//!
//! let stamp = cells.stamp(key.as_ref().hash(), 0, 0);   // before the value is read
//! cells.bump_key(key.as_ref().hash());               // somebody invalidates the key
//! assert!(!cells.is_current(key.as_ref().hash(), &stamp)); // what was read must not be served
//! ```
//!
//! | feature | adds |
//! | --- | --- |
//! | `uuid` | [`CacheKey`] for `uuid::Uuid` |

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod codec;
mod deadlines;
mod digest;
mod entry;
mod error;
mod generations;
mod header;
mod key;
mod life;
mod local;
mod local_key;
mod memory;
mod outbox;
mod remote;
mod stamped;
mod tags;
mod token;

pub use clock::{Clock, ManualClock, Moment};
pub use codec::{Codec, CodecError, JsonCodec};
pub use digest::Digest;
pub use entry::{AnyValue, Entry};
pub use error::StoreError;
pub use generations::{Generations, Stamp};
pub use header::ValueHeader;
pub use key::buf::{CacheKey, KeyBuf};
pub use key::hash::KeyRef;
pub use key::owned::{Key, KeyError, MAX_KEY_LEN};
pub use larder_derive::CoreCacheKey as CacheKey;
pub use life::{Life, Phase};
pub use local::{Capacity, LocalStore};
pub use local_key::{KeptHash, LocalKey, PassThrough};
pub use memory::{MemoryRemote, MemoryServer};
pub use outbox::{Outbox, OutboxEntry, OutboxError};
pub use remote::{
    BreakerState, Claim, Committed, Invalidated, LaneState, Push, PushListener, RemoteEvent, RemoteStats,
    RemoteStore, Replacing, Stored, WriteClaim,
};
pub use stamped::{LocalMap, Stamped};
pub use tags::{TagCell, TagStamp, Tags};
pub use token::Token;

/// The trait without the macro of that name, for `larder`, which has a macro of its own.
#[doc(hidden)]
pub mod reexport {
    pub use crate::key::buf::CacheKey;
}
