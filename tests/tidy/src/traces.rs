//! Where the rules of the protocol are kept and tried: the page docs/rules.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use crate::{
    Error, Project, Rule, Source,
    comments::comment,
    rules::{PROTOCOL, numbers_in, stated},
    scopes::Scopes,
};

/// A place that names a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mention {
    /// The file, from the project's root.
    pub path: String,
    /// The function or type around the place, such as `Lane::get`; empty if it is the file itself.
    pub scope: String,
}

/// A rule with the places that name it.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The rule.
    pub rule: Rule,
    /// Places in the code of the published packages.
    pub code: BTreeSet<Mention>,
    /// Places in the tests.
    pub tests: BTreeSet<Mention>,
}

/// The file that [`render`] is written to.
pub const RULES: &str = "docs/rules.md";

const HEAD: &str = "\
# The protocol's rules, and where each is kept

Written by `cargo xtask rules` from the headings of [protocol.md](protocol.md) and from the comments that name a rule.
A test fails when this page is out of date, and when a rule has no code or no test.

| rule | statement | kept in | tried by |
| --- | --- | --- | --- |
";

/// Finds the places that name each rule.
///
/// # Errors
/// A file cannot be read or is not Rust.
pub fn trace(project: &Project) -> Result<Vec<Trace>, Error> {
    let (mut code, mut tests) = (BTreeMap::new(), BTreeMap::new());
    for source in project.sources() {
        let Some(kind) = kind(project, &source.path) else {
            continue;
        };
        for (rule, mention, in_test) in mentions(source)? {
            let found = if kind == Kind::Tests || in_test {
                &mut tests
            } else {
                &mut code
            };
            found
                .entry(rule)
                .or_insert_with(BTreeSet::new)
                .insert(mention);
        }
    }
    let rules = stated(&project.read(PROTOCOL)?)
        .into_iter()
        .map(|rule| Trace {
            code: code.remove(&rule.number).unwrap_or_default(),
            tests: tests.remove(&rule.number).unwrap_or_default(),
            rule,
        });
    Ok(rules.collect())
}

#[derive(PartialEq)]
enum Kind {
    Code,
    Tests,
}

/// Whether a file is code that keeps rules, or a test of them; `None` for what is neither.
fn kind(project: &Project, path: &str) -> Option<Kind> {
    if path.starts_with("tests/integration/") {
        return Some(Kind::Tests);
    }
    let in_package = |name: &str| path.starts_with(&format!("crates/{name}/src/"));
    if in_package("larder-testkit") {
        return Some(Kind::Tests);
    }
    project
        .published()
        .any(|package| in_package(package.name.as_str()))
        .then_some(Kind::Code)
}

/// The rules that a file's comments name: the number, the place, and whether that is a test.
fn mentions(source: &Source) -> Result<Vec<(u32, Mention, bool)>, Error> {
    let lua = source.path.ends_with(".lua");
    let scopes = match lua {
        true => Scopes::default(),
        false => Scopes::of(&source.text).map_err(|error| format!("{}: {error}", source.path))?,
    };
    let mut found = Vec::new();
    for (at, line) in source.text.lines().enumerate() {
        let Some(comment) = comment(line, lua) else {
            continue;
        };
        for (number, _) in numbers_in(comment) {
            let scope = scopes.around(&source.text, at + 1);
            let name = scope.map_or(String::new(), |scope| scope.name.clone());
            let in_test = scope.is_some_and(|scope| scope.in_test);
            found.push((
                number,
                Mention {
                    path: source.path.clone(),
                    scope: name,
                },
                in_test,
            ));
        }
    }
    Ok(found)
}

/// Writes the page docs/rules.md.
pub fn render(traces: &[Trace]) -> String {
    let mut page = HEAD.to_owned();
    for Trace { rule, code, tests } in traces {
        let Rule {
            number,
            slug,
            statement,
        } = rule;
        let statement = statement.replace('|', "\\|");
        let (code, tests) = (places(code), places(tests));
        let anchor = format!("p{number}-{slug}");
        let _ = writeln!(
            page,
            "| [P{number} {slug}](protocol.md#{anchor}) | {statement} | {code} | {tests} |"
        );
    }
    page
}

/// The places of a rule by file, each file with a link.
fn places(mentions: &BTreeSet<Mention>) -> String {
    let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for Mention { path, scope } in mentions {
        let scopes = files.entry(path).or_default();
        if !scope.is_empty() {
            scopes.push(format!("`{scope}`"));
        }
    }
    let files = files.into_iter().map(|(path, scopes)| {
        let shown = path
            .trim_start_matches("crates/")
            .replace("/src/", "/")
            .replace("tests/integration/", "");
        format!("[{shown}](../{path}) {}", scopes.join(", "))
            .trim_end()
            .to_owned()
    });
    files.collect::<Vec<_>>().join("<br>")
}
