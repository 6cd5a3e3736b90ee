//! An outage matrix: every fault of the database times every fault of Redis, with and without stale
//! values. Each cell has two processes, a private Redis and a versioned database. It is well, then
//! broken for some seconds while tasks read, write and invalidate, then well again. The run checks
//! the waits, the errors and the values of every caller against the rules.
//!
//! Two longer runs measure one large outage of Redis each: its throughput, and its memory.
//!
//! ```text
//! cell ─┬─▶ 2 × member: a larder with a store of its own ──▶ proxy ──▶ Redis   waits, errors
//!       ├─▶ database: a version for each key; fast, slow, hanging or failing
//!       └─▶ both faults on … both off ──▶ copies equal the database     docs/outages.md
//! ```
//!
//! `cargo xtask outages` runs it; the whole product is one of the tests.

mod cell;
mod copies;
mod database;
mod faults;
mod limits;
mod loads;
pub mod machine;
mod member;
pub mod memory;
mod report;
mod run;
pub mod steady;
mod tally;

pub use cell::{Cell, DatabaseState, RedisState};
pub use limits::{longest_read, longest_write};
pub use report::markdown;
pub use run::{Outcome, Settings, run};
pub use tally::CellOutcome;

/// An error of the run itself.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;
