//! An in-process store on [moka](https://docs.rs/moka): bounded by entries or by weight, with a life and a
//! stamp for each entry. Use it as larder's L1, or alone as a local cache that can be invalidated without races.
//!
//! It is not a cache of another store: it never loads and never looks anywhere else.
//!
//! ```text
//! get(key) ─▶ moka ── past its end, or its stamp out of date? ── no ─▶ entry
//!                                   │ yes
//!                                   └─▶ removed; None
//! insert(key, entry) ── stamp out of date? ── no ─▶ moka
//! ```
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use larder_core::{Generations, Clock, Entry, Key, Life, LocalStore};
//! use larder_moka::{Capacity, MokaStore};
//!
//! let (cells, clock) = (Arc::new(Generations::new(1024, 1, 1)), Clock::system());
//! let store = MokaStore::new(Capacity::Entries(1000), cells.clone(), clock.clone());
//!
//! let key = Key::from_stored_name("user:42");
//! let stamp = cells.stamp(key.hash(), 0, 0); // before the value is read
//! let life = Life::until(clock.now() + Duration::from_secs(60));
//! store.insert(&key, Entry { value: Some(Arc::new("Ada")), life, stamp, tags: None, weight: 1 });
//! assert!(store.get(key.as_ref()).is_some());
//!
//! cells.bump_key(key.hash()); // an invalidation: what is under way is out of date,
//! store.remove(key.as_ref()); // and what is stored goes
//! assert!(store.get(key.as_ref()).is_none());
//! ```

mod store;

pub use larder_core::Capacity;
pub use store::MokaStore;
