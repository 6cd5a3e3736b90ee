//! Rules of the project that no compiler keeps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::sync::LazyLock;

use larder_tidy::Project;

mod documents;
mod findings;
mod layout;
mod packages;
mod rules;

static PROJECT: LazyLock<Project> = LazyLock::new(|| Project::here().unwrap());

/// An application's code, which the project may not change.
const CONTRACT: &str = "crates/larder/examples/contract/main.rs";
