//! The contenders: larder, its peers, and the raw libraries below them. `cargo xtask bench` runs
//! it.
//!
//! Each adapter is a file of its own, and uses the calls that the documentation of its cache says
//! are fastest.

mod cached;
mod cachet;
mod foyer;
mod hitbox;
mod larder;
mod moka;
mod multi_tier_cache;
mod quick_cache;
mod redis;

use std::process::ExitCode;

use larder_comparison::{Contender, run};

/// In the order of the tables: a subject is added with a line.
const CONTENDERS: &[Contender] = &[
    Contender::of::<larder::Moka>("larder", "L1 + L2"),
    Contender::of::<larder::Quick>("larder (quick)", "L1 + L2"),
    Contender::of::<moka::Sync>("moka (sync)", "L1"),
    Contender::of::<moka::Future>("moka (future)", "L1"),
    Contender::of::<quick_cache::Subject>("quick_cache", "L1"),
    Contender::of::<foyer::Subject>("foyer", "L1"),
    Contender::of::<cached::Stores>("cached", "L1 or L2"),
    Contender::of::<cached::ClientSide>("cached, client-side", "L1 + L2"),
    Contender::of::<cachet::Subject>("cachet", "L1"),
    Contender::of::<hitbox::Subject>("hitbox", "L1 + L2"),
    Contender::of::<multi_tier_cache::Subject>("multi-tier-cache", "L1 + L2"),
    Contender::of::<redis::Multiplexed>("redis (multiplexed)", "L2"),
    Contender::of::<redis::Pooled>("redis (deadpool)", "L2"),
];

fn main() -> ExitCode {
    run(CONTENDERS)
}
