//! A bounded number of histories, with seeds of their own each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::time::Duration;

use larder_simulation::search;

#[test]
fn every_read_in_simulated_histories_keeps_the_promise() {
    let first = fastrand::u64(..1 << 48);
    let found = search(first, Duration::from_secs(20), 2).unwrap();
    if let Some(broken) = &found.broken {
        panic!(
            "{broken}cargo xtask simulate --seed {} --trace",
            broken.seed
        );
    }
    assert!(found.histories > 10, "{found:?}"); // also on a busy machine
}
