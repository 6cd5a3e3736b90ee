//! The harness: worlds, processes, gates and clocks, and nothing that is a test.

pub(crate) mod aging;
pub(crate) mod batch;
pub(crate) mod calls;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod gated;
pub(crate) mod log;
pub(crate) mod policy;
pub(crate) mod redis;
pub(crate) mod stage;
pub(crate) mod store;
pub(crate) mod wait;
pub(crate) mod worker;
pub(crate) mod world;
