//! The questions to larder and its peers, the measurement of each answer, and the report. It names
//! no cache: each cache is a [`Subject`], a small adapter in a package of its own under `benches/`.
//!
//! ```text
//! conductor ── each question, round by round, every subject in turn ──▶ a job: one process
//!     ▲                                                                 opens, fills, measures
//!     └──────────────── one line of JSON for each measured cell ◀───────────────┘
//! medians over the rounds ──▶ docs/benchmarks.md and its charts
//! ```
//!
//! Every measurement has a process of its own. So no cache runs on an allocator, thread-locals or
//! processor caches that another one has used, and caches whose dependencies clash are measured
//! alike.

mod contender;
mod database;
mod draw;
mod job;
mod line;
mod measure;
mod question;
mod subject;
mod value;

pub mod conductor;
pub mod report;

pub use contender::{Contender, run};
pub use database::{Database, monotonic};
pub use job::{Entrant, Job};
pub use line::{Answer, Line};
pub use question::{Cell, Kind, Part, Question};
pub use subject::{Cannot, Levels, Problem, Setting, Subject, cannot};
pub use value::{Key, User};
