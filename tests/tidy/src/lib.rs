//! Reads the project's own source, for the rules that no compiler keeps: circles of imports, files
//! and functions that are too long, comments, and where each rule of the protocol is kept and
//! tried.
//!
//! It is no linter for other projects: it knows how this one is laid out.
//!
//! ```text
//! Project ─┬─▶ Source, a text ─┬─▶ comments    first words, columns, slugs
//!          │                   ├─▶ functions   lengths
//!          │                   └─▶ traces      comments and docs/protocol.md ─▶ docs/rules.md
//!          └─▶ Modules, of one target ─▶ imports ─▶ circles
//! ```
//!
//! The checks are the tests of this package: `cargo test -p larder-tidy`. `cargo xtask rules` and
//! `cargo xtask counts` write what it finds.

pub mod comments;
pub mod functions;
pub mod imports;
mod modules;
mod project;
pub mod public;
pub mod rules;
mod scopes;
pub mod traces;

pub use modules::Modules;
pub use project::{Error, Project, Source};
pub use rules::Rule;
