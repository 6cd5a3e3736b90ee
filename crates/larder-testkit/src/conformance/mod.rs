//! Conformance suites: one for each trait of stores, which every implementation must pass.
//!
//! An implementation calls the suite in a test of its own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by a panic, as every test does"
)]

mod local;
mod process;
mod pushes;
mod reload;
mod remote;
mod tags;
mod writers;

pub use local::local_store;
pub use remote::remote_store;
