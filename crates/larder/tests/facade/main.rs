//! The facade without a server: on a `MemoryServer` and a clock that is set by hand.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up should stop where it cannot"
)]

mod builder;
mod close;
mod counts;
mod errors;
mod loading;
mod sizes;
mod support;
