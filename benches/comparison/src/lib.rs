//! What larder and its peers are asked, how each answer is measured, and the report that is made of the answers.
//! It names no cache: each cache is a [`Subject`], a small adapter in a package of its own under `benches/`.
//!
//! ```text
//! conductor ── for each question, round by round, every subject in turn ──▶ a job: one process, one subject
//!     ▲                                                                        opens, fills, measures
//!     └──────────────────── one line of JSON for each measured cell ◀──────────┘
//! medians over the rounds ──▶ docs/benchmarks.md and its charts
//! ```
//!
//! Every measurement has a process of its own, so that no cache runs on what another one has left in the allocator, the
//! thread-locals or the caches of the processor, and caches whose dependencies clash are measured alike.

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

pub use database::{Database, monotonic};
pub use job::{Contender, Entrant, Job, run};
pub use line::{Answer, Line};
pub use question::{Cell, Kind, Part, Question};
pub use subject::{Cannot, Levels, Problem, Setting, Subject, cannot};
pub use value::{Key, User};
