//! A model of larder's coherence protocol, small enough to be looked at from end to end: two processes, one key and one
//! tag, every order of their steps, and what may go wrong in between. Checked with
//! [stateright](https://docs.rs/stateright).
//!
//! It is not the implementation: it is what `docs/protocol.md` says, step by step, and it leaves out one mechanism after
//! the other to see that the rest would not do.
//!
//! ```text
//! scenarios ─▶ protocol ─▶ each step: reader, writer, events ─▶ process, redis ─▶ properties of every state
//!                   └── mutant: the protocol without one of its mechanisms
//! ```
//!
//! | rule | where |
//! | --- | --- |
//! | P1 to P12, P14 to P18, P21 to P27 | each has mutants of its name, and each of these breaks a property |
//! | P13, P20 | are about time, which the model has not: a loss is noticed some time, and no entry expires |
//! | P19 | is about tasks and callers, which the model does not tell apart |

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
