//! A search of every state of every configuration, with the whole protocol and with one mechanism
//! less.

#![allow(
    clippy::print_stdout,
    reason = "the number of states is part of the result"
)]

use std::sync::LazyLock;

use larder_model::{Mutant, Protocol, scenarios};
use stateright::{Checker, HasDiscoveries, Model};

/// The result of a search.
struct Seen {
    protocol: Protocol,
    states: usize,
    /// The property that does not hold, and the shortest way to such a state.
    broken: Option<(&'static str, Vec<String>)>,
}

fn check(protocol: Protocol) -> Seen {
    let checker = protocol
        .clone()
        .checker()
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let broken = checker
        .discoveries()
        .into_iter()
        .next()
        .map(|(property, path)| {
            (
                property,
                path.into_actions()
                    .iter()
                    .map(|action| format!("{action:?}"))
                    .collect(),
            )
        });
    Seen {
        protocol,
        states: checker.unique_state_count(),
        broken,
    }
}

/// The whole protocol, in each configuration, the small ones first.
static WHOLE: LazyLock<Vec<Seen>> = LazyLock::new(|| {
    let mut whole: Vec<_> = scenarios::sound().into_iter().map(check).collect();
    whole.sort_by_key(|seen| seen.states);
    whole
});

#[test]
fn whole_protocol_keeps_every_promise_in_every_state() {
    for Seen {
        protocol,
        states,
        broken,
    } in WHOLE.iter()
    {
        println!("{states:>9} states: {}", protocol.name);
        assert_eq!(*broken, None, "{}", protocol.name);
    }
    println!(
        "{:>9} states in all",
        WHOLE.iter().map(|seen| seen.states).sum::<usize>()
    );
}

#[test]
fn protocol_without_any_of_its_mechanisms_breaks_a_promise() {
    let mut unbroken = Vec::new();
    for mutant in Mutant::ALL {
        let found = WHOLE.iter().find_map(|whole| {
            let seen = check(Protocol {
                mutant: Some(mutant),
                ..whole.protocol.clone()
            });
            seen.broken.map(|broken| (whole.protocol.name, broken))
        });
        match found {
            Some((name, (property, steps))) => {
                println!(
                    "{mutant:?}: {} steps to break \"{property}\" in \"{name}\"",
                    steps.len()
                );
            }
            None => unbroken.push(mutant),
        }
    }
    assert!(
        unbroken.is_empty(),
        "no promise is broken without {unbroken:?}"
    );
}

#[test]
fn what_is_not_promised_does_happen() {
    for protocol in scenarios::excepted() {
        let seen = check(protocol);
        let name = seen.protocol.name;
        let (property, steps) = seen
            .broken
            .unwrap_or_else(|| panic!("{name} does no harm: promise it"));
        println!("{name}: {} steps to break \"{property}\"", steps.len());
    }
}
