//! The six patterns, one after the other.

pub(crate) mod cache_aside;
pub(crate) mod invalidation;
pub(crate) mod levels;
pub(crate) mod lifetimes;
pub(crate) mod stampede;
pub(crate) mod write_through;

/// Said where a step needs a second instance.
const NEEDS_REDIS: &str = "What a second instance sees is left out: it needs Redis.";
