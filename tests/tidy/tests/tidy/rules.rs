//! The protocol's rules: each is stated, kept and tried, and the page that says where is current.

use larder_tidy::{
    rules::{self, PROTOCOL},
    traces::{self, RULES, Trace},
};

use crate::{PROJECT, findings::expect_none};

#[test]
fn rules_are_numbered_without_a_gap_and_named_once() {
    let rules = rules::stated(&PROJECT.read(PROTOCOL).unwrap());
    assert!(
        rules.len() >= 15,
        "the rules are headings of {PROTOCOL}, such as `### P1 stamp-before-read`: {rules:?}"
    );
    for (at, rule) in rules.iter().enumerate() {
        assert_eq!(usize::try_from(rule.number).unwrap(), at + 1, "{rule:?}");
        assert!(
            rule.slug.contains('-') && !rule.slug.contains(' '),
            "{rule:?}"
        );
        assert!(
            !rule.statement.is_empty(),
            "{rule:?}: the paragraph below the heading is the statement"
        );
        assert!(
            rules[..at].iter().all(|other| other.slug != rule.slug),
            "{rule:?}"
        );
    }
}

#[test]
fn every_rule_has_its_code_and_its_test() {
    for Trace { rule, code, tests } in traces::trace(&PROJECT).unwrap() {
        let name = format!("P{} {}", rule.number, rule.slug);
        assert!(
            !code.is_empty(),
            "no code of the published crates says that it keeps {name}"
        );
        assert!(
            tests
                .iter()
                .any(|test| test.path.starts_with("tests/integration/")),
            "no integration test says that it tries {name}"
        );
    }
}

#[test]
fn the_page_of_the_rules_is_current() {
    let page = traces::render(&traces::trace(&PROJECT).unwrap());
    let current = PROJECT.read(RULES).is_ok_and(|written| written == page);
    let problem = || {
        (
            RULES.to_owned(),
            " is out of date: write it anew with `cargo xtask rules`".to_owned(),
        )
    };
    expect_none("rules page", (!current).then(problem));
}
