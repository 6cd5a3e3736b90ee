//! A history checker: several processes with a larder each, a private Redis, a versioned database
//! and a foreign program, all under a random mix of reads and writes while connections, the server
//! and the processes fail. Afterwards every single read is checked against the promise of
//! `docs/protocol.md`.
//!
//! It is for finding what nobody has thought of. What somebody has thought of has a test of its own
//! elsewhere.
//!
//! ```text
//! conductor ─┬─▶ nodes (processes) ──▶ proxy ──▶ Redis    each read and write, its result and time
//!            ├─▶ database: a version for each key, and when it was committed
//!            ├─▶ foreign program: writes the database, then Redis
//!            └─▶ faults, one at a time      all of it ──▶ history ──▶ verdict ──▶ report
//! ```
//!
//! `cargo xtask chaos --minutes 10` runs it; a short run is one of the tests.

mod asking;
mod causes;
mod clock;
mod conductor;
mod copies;
mod database;
mod failovers;
mod faults;
mod foreign;
mod history;
mod inject;
mod journal;
mod keys;
mod losses;
mod member;
mod meter;
pub mod mutants;
pub mod node;
mod outcome;
mod report;
mod scene;
mod servers;
mod told;

pub use causes::with_causes;
pub use conductor::{Settings, run};
pub use database::Commit;
pub use faults::{Fault, FaultKind, Topology};
pub use history::{History, Kind, Stale, Verdict, Violation};
pub use journal::{Link, Read, Write};
pub use keys::{Key, Namespace, PolicyName};
pub use meter::{Metered, Rounds, meter};
pub use outcome::Outcome;
pub use report::html;

/// A failure of the run itself.
pub type Problem = Box<dyn std::error::Error + Send + Sync>;
