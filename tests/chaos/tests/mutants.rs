//! The mutants that the checker has to find can be made of the code as it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use larder_chaos::mutants;

#[test]
fn text_of_every_mutant_occurs_once() {
    let mutants = mutants::all().unwrap();
    assert!(mutants.len() >= 12);
    for mutant in mutants {
        let changed = mutant.apply().unwrap();
        assert!(changed.contains(&mutant.to), "{}", mutant.name);
    }
}
