//! The hazards of a multi-level cache, one module each, on real servers that the tests start
//! themselves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by a panic"
)]

mod features;
mod observe;
mod outages;
mod protocol;
mod support;
