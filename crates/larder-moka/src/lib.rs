//! An in-process store on [moka](https://docs.rs/moka): bounded by entries or by weight, with a
//! life and a stamp for each entry. Use it as larder's L1, or alone as a local cache that can be
//! invalidated without races.
//!
//! It is not a cache of another store: it never loads and never looks anywhere else.
//!
//! ```text
//! get(key) ─▶ moka ── past its end, or its stamp outdated? ── no ─▶ entry
//!                                   │ yes
//!                                   └─▶ removed; None
//! insert(key, entry) ── stamp outdated? ── no ─▶ moka
//! ```
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use larder_core::{Clock, Entry, Generations, Key, LaneIndex, Life, LocalStore, PolicyIndex};
//! use larder_moka::{Capacity, MokaMap, MokaStore};
//!
//! let (generations, clock) = (Arc::new(Generations::new(1024, 1, 1)), Clock::system());
//! let map = MokaMap::new(Capacity::Entries(1000));
//! let store = MokaStore::new(map, generations.clone(), clock.clone());
//!
//! let key = Key::from_stored_name("user:42");
//! let stamp = generations.stamp(key.hash(), LaneIndex::NONE, PolicyIndex(0)); // before the read
//! let life = Life::until(clock.now() + Duration::from_secs(60));
//! store.insert(&key, Entry { value: Some(Arc::new("Ada")), life, stamp, tags: None, weight: 1 });
//! assert!(store.get(key.as_ref()).is_some());
//!
//! generations.bump_key(key.hash()); // an invalidation: values under way are outdated,
//! store.remove(key.as_ref()); // and the stored one goes
//! assert!(store.get(key.as_ref()).is_none());
//! ```

mod map;

pub use larder_core::Capacity;
pub use map::{MokaMap, MokaStore};

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
