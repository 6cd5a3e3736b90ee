/// Fails with every place that a check has found, and its problem there.
pub(crate) fn expect_none(check: &str, found: impl IntoIterator<Item = (String, String)>) {
    let found: Vec<String> = found
        .into_iter()
        .map(|(path, problem)| format!("{path}{problem}"))
        .collect();
    assert!(found.is_empty(), "{check}:\n{}", found.join("\n"));
}
