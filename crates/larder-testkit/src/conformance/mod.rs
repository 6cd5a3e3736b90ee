//! The suites that every implementation of a store trait must pass.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by a panic, as every test does"
)]

mod local;
mod reload;
mod remote;
mod tags;

pub use local::local_store;
pub use remote::remote_store;
