/// Places that do not keep a check yet: the check, and files or folders. This list only ever
/// shrinks.
const EXCEPTIONS: &[(&str, &[&str])] = &[];

/// Fails with every place that a check has found, but for its exceptions.
pub(crate) fn expect_none(check: &str, found: impl IntoIterator<Item = (String, String)>) {
    let excepted = |path: &str| {
        let mut places = EXCEPTIONS
            .iter()
            .filter(|(of, _)| *of == check)
            .flat_map(|(_, places)| *places);
        places.any(|place| path.starts_with(place))
    };
    let found = found.into_iter().filter(|(path, _)| !excepted(path));
    let found: Vec<String> = found
        .map(|(path, problem)| format!("{path}{problem}"))
        .collect();
    assert!(found.is_empty(), "{check}:\n{}", found.join("\n"));
}
