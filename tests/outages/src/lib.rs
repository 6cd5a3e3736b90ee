//! What callers see when things break: every state of the database times every state of Redis, with
//! and without stale values, each in a cell of its own with two processes, a private Redis and a
//! versioned database. Each cell is well, then broken for some seconds while tasks read, write and
//! invalidate all the time, then well again; how long a caller waited, which errors it saw and what
//! it was served is measured and judged.
//!
//! Two longer runs are about one large outage: throughput while Redis is gone, and memory while it
//! stays away.
//!
//! ```text
//! cell ─┬─▶ 2 × member: a larder with a store of its own ──▶ proxy ──▶ Redis      waits, errors, loads, old values
//!       ├─▶ database: a version for each key; fast, slow, hanging or failing
//!       └─▶ both faults on … both off ──▶ every copy is what the database holds       all cells ──▶ docs/outages.md
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

/// What went wrong with the run itself.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;
