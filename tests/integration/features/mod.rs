//! The features of the facade: batches, reloads, stale values, limits of loads, the outbox, other
//! programs.

pub(crate) mod bad_input;
pub(crate) mod closing;
pub(crate) mod interop;
pub(crate) mod load_control;
pub(crate) mod loading;
pub(crate) mod many;
pub(crate) mod namespaces;
pub(crate) mod nested;
pub(crate) mod never_stale;
pub(crate) mod outbox;
pub(crate) mod overlapping_batches;
pub(crate) mod policy;
pub(crate) mod reads;
pub(crate) mod refresh;
pub(crate) mod refresh_now;
pub(crate) mod stale;
