//! The hazards of a multi-level cache, one module each, on real servers that the tests start themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by a panic")]

mod advice;
mod aging;
mod bad_input;
mod batcher;
mod breaker;
mod bus;
mod cancellation;
mod cluster;
mod coherence;
mod conformance;
mod events;
mod gated;
mod interop;
mod l1_stores;
mod large;
mod lease;
mod load_control;
mod log;
mod many;
mod metrics;
mod orchestrated;
mod outage;
mod outbox;
mod policy;
mod probe;
mod races;
mod reads;
mod refresh;
mod stale;
mod stampede;
mod tags;
mod tidy;
mod worker;
mod world;
mod writes;
