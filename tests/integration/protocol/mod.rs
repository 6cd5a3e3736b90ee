//! The rules of `docs/protocol.md`, on real servers.

pub(crate) mod bus;
pub(crate) mod cancellation;
pub(crate) mod cluster;
pub(crate) mod coherence;
pub(crate) mod conformance;
pub(crate) mod instant_clears;
pub(crate) mod l1_stores;
pub(crate) mod large;
pub(crate) mod late_callers;
pub(crate) mod lease;
pub(crate) mod moving_slots;
pub(crate) mod orchestrated;
pub(crate) mod probe;
pub(crate) mod races;
pub(crate) mod stampede;
pub(crate) mod tags;
pub(crate) mod tracked;
pub(crate) mod writes;
