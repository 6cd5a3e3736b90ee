//! A table that says, for each type of data, how long a cache may keep it and why. It comes from
//! TOML, from any format that serde reads, or from code. The crate checks every value, and an error
//! names the policy, the key, the line and the remedy.
//!
//! This crate caches nothing: `larder` does, and other caches can use the same table. It sets no
//! global state, and reads no environment.
//!
//! ```text
//! TOML ──┐
//! serde ─┼─▶ keys and values ─▶ checks of each ─▶ Policy ─▶ checks between policies ─▶ TtlTable
//! code ──┘
//! ```
//!
//! ```
//! use std::time::Duration;
//! use larder_ttl::TtlTable;
//!
//! let table = TtlTable::from_toml(
//!     r#"
//!     [user_posts]
//!     prefix = "posts"
//!     ttl = "5m"
//!     negative_ttl = "30s"
//!     reason = "new posts appear within minutes"
//!     "#,
//! )?;
//! let posts = table.policy("user_posts").unwrap();
//! assert_eq!((posts.prefix(), posts.ttl()), ("posts", Duration::from_secs(300)));
//! assert_eq!(table.policy("session_token").unwrap().reason(), "security"); // built in
//! println!("{table}");
//! # Ok::<(), larder_ttl::TableError>(())
//! ```
//!
//! A combination of values that is legal but will hurt is no error: [`Policy::advice`] lists it
//! with a remedy.
//!
//! This crate has no features.

pub use advice::Advice;
pub use builder::PolicyBuilder;
pub use error::TableError;
pub use levels::Levels;
pub use on_outage::OnOutage;
pub use policy::Policy;
pub use table::TtlTable;

mod advice;
mod builder;
mod display;
mod draft;
mod error;
mod levels;
mod on_outage;
mod policy;
mod source;
mod table;
mod value;

/// The example of the README, which the tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
