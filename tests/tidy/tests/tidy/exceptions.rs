/// Places that do not keep a check yet: the check, and files or folders. This list only ever
/// shrinks.
const EXCEPTIONS: &[(&str, &[&str])] = &[
    ("rules page", &["docs/rules.md"]),
    (
        "circles",
        &[
            "crates/larder-lock/",
            "crates/larder-testkit/",
            "crates/larder/",
            "tests/chaos/",
        ],
    ),
    (
        "columns",
        &[
            "crates/larder-core/",
            "crates/larder-derive/",
            "crates/larder-lock/",
            "crates/larder-moka/",
            "crates/larder-quick/",
            "crates/larder-testkit/",
            "crates/larder/",
            "tests/chaos/",
            "tests/integration/",
            "tests/outages/",
            "tests/src/",
        ],
    ),
    ("files", &["crates/larder-core/src/remote/memory.rs", "tests/integration/"]),
    (
        "first words",
        &[
            "crates/larder-core/",
            "crates/larder-lock/",
            "crates/larder-quick/",
            "crates/larder-testkit/",
            "crates/larder/",
            "tests/chaos/",
            "tests/integration/",
            "tests/outages/",
            "tests/src/",
        ],
    ),
    ("functions", &["crates/larder/"]),
];

/// Fails with every place that a check has found, but for its exceptions.
pub(crate) fn expect_none(check: &str, found: impl IntoIterator<Item = (String, String)>) {
    let excepted = |path: &str| {
        let mut places = EXCEPTIONS.iter().filter(|(of, _)| *of == check).flat_map(|(_, places)| *places);
        places.any(|place| path.starts_with(place))
    };
    let found = found.into_iter().filter(|(path, _)| !excepted(path));
    let found: Vec<String> = found.map(|(path, problem)| format!("{path}{problem}")).collect();
    assert!(found.is_empty(), "{check}:\n{}", found.join("\n"));
}
