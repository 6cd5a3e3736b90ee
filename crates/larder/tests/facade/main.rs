//! The facade without a server: on a `MemoryServer` and a clock that is set by hand.

mod builder;
mod close;
mod counts;
mod errors;
mod loading;
mod support;
