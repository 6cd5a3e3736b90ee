//! The hazards of a multi-level cache, one module each, on real servers that the tests start themselves.

mod bad_input;
mod cancellation;
mod coherence;
mod conformance;
mod gated;
mod interop;
mod lease;
mod outage;
mod policy;
mod races;
mod stampede;
mod tidy;
mod worker;
mod world;
