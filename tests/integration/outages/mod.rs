//! Redis is not there, hangs, refuses, or comes and goes.

pub(crate) mod breaker;
pub(crate) mod connection;
pub(crate) mod data_loss;
pub(crate) mod lost_lanes;
pub(crate) mod refusals;
pub(crate) mod unsent;
