//! The application's view: events, statistics, metrics, the log, advice.

pub(crate) mod advice;
pub(crate) mod events;
pub(crate) mod log;
pub(crate) mod metrics;
