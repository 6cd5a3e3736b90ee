//! The measurement of each kind of question, one file for each.

pub(crate) mod allocations;
pub(crate) mod fanout;
mod fill;
pub(crate) mod instructions;
pub(crate) mod l1;
pub(crate) mod l2;
pub(crate) mod memory;
mod percentiles;
pub(crate) mod ratio;
pub(crate) mod storm;
pub(crate) mod write;
