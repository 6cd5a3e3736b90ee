//! Rules of the project that a compiler does not keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{DependencyKind, MetadataCommand};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every file below a folder of the project whose name ends so.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if !path.ends_with("target") => folders.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn crates_depend_downwards_only() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("larder-core", ["larder-derive"].as_slice()),
        ("larder-derive", &[]),
        ("larder-ttl", &[]),
        ("larder-moka", &["larder-core"]),
        ("larder-quick", &["larder-core"]),
        ("larder-redis", &["larder-core"]),
        ("larder-lock", &["larder-core"]),
        ("larder-testkit", &["larder-core"]),
        (
            "larder",
            &[
                "larder-core",
                "larder-derive",
                "larder-lock",
                "larder-moka",
                "larder-quick",
                "larder-redis",
                "larder-ttl",
            ],
        ),
    ]);
    let mut seen = 0;
    for package in &metadata.packages {
        let Some(allowed) = allowed.get(package.name.as_str()) else { continue };
        seen += 1;
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if dependency.kind == DependencyKind::Normal && name.starts_with("larder") {
                assert!(allowed.contains(&name), "{} must not depend on {name}", package.name);
            }
            let owner = match name {
                "moka" => "larder-moka",
                "quick_cache" => "larder-quick",
                "redis" | "deadpool-redis" => "larder-redis",
                "tokio" if package.name.as_str() == "larder-core" => "no runtime",
                _ => continue,
            };
            assert_eq!(package.name.as_str(), owner, "only {owner} may depend on {name}");
        }
    }
    assert_eq!(seen, allowed.len());
}

/// The rules that a text names: `P7 wake-own-waiters` and the like.
fn rules(text: &str) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices('P') {
        let alone = !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let digits: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        if alone && let Ok(number) = digits.parse() {
            found.insert(number);
        }
    }
    found
}

#[test]
fn every_rule_of_the_protocol_has_its_code_and_its_test() {
    let protocol = fs::read_to_string(root().join("docs/protocol.md")).unwrap();
    let stated: BTreeSet<u32> =
        protocol.lines().filter(|line| line.starts_with("### P")).flat_map(rules).collect();
    assert!(stated.len() >= 15, "the rules are headings of docs/protocol.md: {stated:?}");
    assert_eq!(stated, (1..=u32::try_from(stated.len()).unwrap()).collect());
    let named_in = |paths: Vec<PathBuf>, mark: &str| -> BTreeSet<u32> {
        let texts = paths.into_iter().map(|path| fs::read_to_string(path).unwrap());
        texts
            .flat_map(|text| {
                text.lines().filter(|line| line.contains(mark)).flat_map(rules).collect::<Vec<_>>()
            })
            .collect()
    };
    let sources = ["larder", "larder-core", "larder-lock", "larder-moka", "larder-quick", "larder-redis"];
    let mut code = BTreeSet::new();
    for source in sources {
        let folder = format!("crates/{source}/src");
        code.extend(named_in(files(&folder, ".rs"), "//"));
        code.extend(named_in(files(&folder, ".lua"), "--"));
    }
    let tests = named_in(files("tests/integration", ".rs"), "P");
    assert_eq!(code, stated, "rules named in the code, and stated");
    assert_eq!(tests, stated, "rules named in tests, and stated");
}

#[test]
fn files_are_short_enough_to_be_read() {
    for folder in ["crates", "tests", "benches"] {
        for path in files(folder, ".rs") {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 700, "{} has {lines} lines: split it", path.display());
        }
    }
}

#[test]
fn every_public_crate_can_be_published() {
    let metadata = MetadataCommand::new().manifest_path(root().join("Cargo.toml")).no_deps().exec().unwrap();
    for package in metadata.packages.iter().filter(|package| package.publish.is_none()) {
        assert!(package.description.is_some() && package.license.is_some(), "{}", package.name);
        assert!(package.repository.is_some() && package.readme.is_some(), "{}", package.name);
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            assert_ne!(
                dependency.req.to_string(),
                "*",
                "{} needs a version of {}",
                package.name,
                dependency.name
            );
        }
    }
}
