//! A model of larder's coherence protocol, small enough for a search of all states: two processes,
//! one key and one tag, every order of their steps, and every fault in between. Checked with
//! [stateright](https://docs.rs/stateright).
//!
//! It models the text of `docs/protocol.md`, not the implementation. It also leaves out one
//! mechanism after the other, to show that each of them is needed.
//!
//! ```text
//! scenarios ─▶ protocol ─▶ a step: reader, refresh, writer, events ─▶ process, redis ─▶ properties
//!                   └── mutant: the protocol without one of its mechanisms
//! ```
//!
//! | rule | where |
//! | --- | --- |
//! | P1 stamp-before-read to P12 tracking-never-assumed, P14 no-wait-for-expiry-push to P18 failed-write-invalidates, P21 tags-pinned-in-time to P28 stale-only-while-current, P30 forgotten-is-redone, P31 kept-only-while-away | each has mutants of its name, and each of these breaks a property |
//! | a refresh | has mutants of its name; a lease tells it whether it was renewed, and else whether it was taken after the first claim |
//! | P13 silence-is-not-health, P20 l1-ends-with-l2 | are about time, which the model lacks: a loss is noticed at some time, and no entry expires |
//! | P19 loads-end-with-callers | is about tasks and callers, between which the model makes no difference |
//! | P32 runtime-end-is-loss | is P10 loss-told-before-successor: a connection is cut |

mod events;
mod mutant;
mod process;
mod properties;
mod protocol;
mod reader;
mod redis;
mod redo;
mod refresh;
pub mod scenarios;
pub mod state;
mod writer;

pub use mutant::Mutant;
pub use protocol::{Action, Protocol};
