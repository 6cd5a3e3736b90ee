//! A seed says all about a history.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::process::Command;

use larder_simulation::{mutants, simulate};

#[test]
fn same_seed_gives_the_same_history_byte_for_byte() {
    for seed in 0..60 {
        let (one, other) = (simulate(seed, true).unwrap(), simulate(seed, true).unwrap());
        assert!(one.trace.lines().count() > 100, "seed {seed}");
        assert!(one.trace == other.trace, "seed {seed}");
        assert_eq!(one.to_string(), other.to_string());
    }
}

#[test]
fn same_seed_gives_the_same_history_in_another_process() {
    let run = |seed: u64| {
        let mut simulate = Command::new(env!("CARGO_BIN_EXE_simulate"));
        let ran = simulate
            .args(["--seed", &seed.to_string(), "--trace"])
            .output();
        String::from_utf8(ran.unwrap().stdout).unwrap()
    };
    for seed in 0..10 {
        assert!(run(seed) == run(seed), "seed {seed}");
    }
}

#[test]
fn text_of_every_mutant_occurs_once() {
    for mutant in mutants::all().unwrap() {
        let changed = mutant.apply().unwrap();
        assert!(changed.contains(&mutant.to), "{}", mutant.name);
    }
}
