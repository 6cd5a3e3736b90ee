//! A model of larder's coherence protocol, small enough to be looked at from end to end: two
//! processes, one key and one tag, every order of their steps, and the faults in between.
//! [stateright](https://docs.rs/stateright) checks it.
//!
//! It is not the implementation: it follows `docs/protocol.md` step by step, and it leaves out one
//! mechanism after the other to see that the rest would not do.
//!
//! ```text
//! scenarios ─▶ protocol ─▶ each step: reader, writer, events ─▶ process, redis
//!                 │                                                └─▶ properties of every state
//!                 └── mutant: the protocol without one of its mechanisms
//! ```
//!
//! | rule | where |
//! | --- | --- |
//! | P1 stamp-before-read to P12 tracking-never-assumed, P14 no-wait-for-expiry-push to P18 failed-write-invalidates, P21 tags-pinned-in-time to P27 channel-proves-alive | each has mutants of its name, and each of these breaks a property |
//! | P13 silence-is-not-health, P20 l1-ends-with-l2 | are about time, which the model has not: a loss is noticed some time, and no entry expires |
//! | P19 loads-end-with-callers | is about tasks and callers, which the model does not tell apart |

mod events;
mod mutant;
mod process;
mod properties;
mod protocol;
mod reader;
mod redis;
pub mod scenarios;
pub mod state;
mod writer;

pub use mutant::Mutant;
pub use protocol::{Action, Protocol};
