//! The harness: worlds, processes, gates and clocks, and nothing that is a test.

pub(crate) mod aging;
pub(crate) mod gated;
pub(crate) mod worker;
pub(crate) mod world;
