//! A table that says for each type of data how long it may be cached, and why: from TOML, from any format that serde
//! reads, or from code. Every value is checked, and an error names the policy, the key and the line.
//!
//! What is possible but will hurt is no error: [`Policy::advice`] names it, and what to do.
//!
//! It caches nothing itself: `larder` does, and other caches can.
//!
//! ```text
//! TOML ──┐
//! serde ─┼─▶ one draft for each policy ─▶ checks ─▶ Policy ─▶ checks between policies ─▶ TtlTable
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

mod advice;
mod builder;
mod display;
mod draft;
mod error;
mod policy;
mod scalar;
mod source;
mod table;

pub use advice::Advice;
pub use builder::RowBuilder;
pub use error::TableError;
pub use policy::{Levels, OnOutage, Policy};
pub use table::TtlTable;
