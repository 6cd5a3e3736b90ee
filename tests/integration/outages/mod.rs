//! Redis is not there, hangs, refuses, or comes and goes.

pub(crate) mod breaker;
pub(crate) mod connection;
pub(crate) mod credentials;
pub(crate) mod data_loss;
pub(crate) mod demoted;
pub(crate) mod foreign;
pub(crate) mod lost_lanes;
pub(crate) mod reconnected;
pub(crate) mod refusals;
pub(crate) mod runtimes;
pub(crate) mod sentinel;
pub(crate) mod shards;
pub(crate) mod unsent;
