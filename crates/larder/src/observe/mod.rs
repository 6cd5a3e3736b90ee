//! The signs of a larder's work: events, numbers, metrics, and advice at the start.

pub(crate) mod advice;
pub(crate) mod counters;
pub(crate) mod events;
#[cfg(feature = "metrics")]
pub(crate) mod metrics;
pub(crate) mod stats;

pub(crate) use self::{
    counters::Counters,
    events::{Hook, tell_of_remote},
    stats::Count,
};
pub use self::{
    events::{Event, Level, LoadOutcome},
    stats::Stats,
};
