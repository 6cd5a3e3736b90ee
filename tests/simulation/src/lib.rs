//! A deterministic simulation: the real engine and facade of several processes, an L2 in memory and
//! a versioned database, on one thread, in a time that passes only while every task waits. A seed
//! chooses the work, the order of tasks at each wait, the faults, and the calls that are dropped.
//! The history checker of `tests/chaos` judges each history.
//!
//! It is for interleavings that no real run hits, and it can repeat each of them. A connection of
//! the real client, the scripts, and the threads of a runtime are not in it.
//!
//! ```text
//! seed ─▶ nodes (larder) ─▶ lanes: delays, losses, pushes on their way ─▶ MemoryServer
//!           └─▶ database: a version for each key      all of it ──▶ history ──▶ verdict
//! ```
//!
//! `cargo xtask simulate --seconds 600` runs it; a short run is one of the tests.

mod bus;
mod database;
mod faults;
mod journal;
mod kinds;
mod lane;
mod life;
mod listeners;
pub mod mutants;
mod names;
mod node;
mod question;
mod queues;
mod run;
mod setup;
mod store;
mod time;
mod world;

pub use run::{Found, search};
pub use world::{Outcome, simulate};
