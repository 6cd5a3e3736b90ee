//! The packages: who depends on whom, and what each one carries when it is published.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use cargo_metadata::{DependencyKind, Package, Target};

use crate::PROJECT;

fn folder(package: &Package) -> PathBuf {
    package
        .manifest_path
        .parent()
        .unwrap()
        .as_std_path()
        .to_owned()
}

#[test]
fn crates_depend_downwards_only() {
    let middle = ["larder-core"].as_slice();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("larder-derive", [].as_slice()),
        ("larder-core", &["larder-derive"]),
        ("larder-ttl", &[]),
        ("larder-moka", middle),
        ("larder-quick", middle),
        ("larder-redis", middle),
        ("larder-lock", middle),
        ("larder-testkit", middle),
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
    for package in PROJECT.published() {
        let name = package.name.as_str();
        let allowed = allowed
            .get(name)
            .unwrap_or_else(|| panic!("say here what {name} may depend on"));
        seen += 1;
        for dependency in &package.dependencies {
            let on = dependency.name.as_str();
            if dependency.kind == DependencyKind::Normal && on.starts_with("larder") {
                assert!(allowed.contains(&on), "{name} must not depend on {on}");
            }
            let owner = match on {
                "moka" => "larder-moka",
                "quick_cache" => "larder-quick",
                "redis" | "deadpool-redis" => "larder-redis",
                "syn" | "quote" => "larder-derive",
                "tokio" if name == "larder-core" => "no runtime",
                _ => continue,
            };
            assert_eq!(name, owner, "only {owner} may depend on {on}");
        }
    }
    assert_eq!(seen, allowed.len());
}

#[test]
fn every_published_package_says_what_it_is() {
    for package in PROJECT.published() {
        let name = &package.name;
        assert!(
            package.description.is_some() && package.license.is_some(),
            "{name}"
        );
        assert!(package.repository.is_some(), "{name}");
        assert_eq!(
            package.readme.as_deref().map(|path| path.as_str()),
            Some("README.md"),
            "{name}: a README of its own"
        );
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal)
        {
            assert_ne!(
                dependency.req.to_string(),
                "*",
                "{name} needs a version of {}",
                dependency.name
            );
        }
    }
}

/// Every package is built with the oldest compiler that the dependencies allow; clippy's
/// `incompatible_msrv` keeps it so.
#[test]
fn every_package_names_the_oldest_compiler() {
    for package in PROJECT.packages() {
        let version = package.rust_version.as_ref().map(ToString::to_string);
        assert_eq!(
            version.as_deref(),
            Some("1.89.0"),
            "{}: rust-version.workspace = true",
            package.name
        );
    }
}

#[test]
fn every_published_library_is_documented_with_all_features() {
    for package in PROJECT.published() {
        let name = &package.name;
        let docs = &package.metadata["docs"]["rs"];
        assert_eq!(
            docs["all-features"], true,
            "{name}: [package.metadata.docs.rs] all-features = true"
        );
        let flags = docs["rustdoc-args"].as_array();
        let flag = flags.is_some_and(|flags| flags.iter().any(|flag| flag == "docsrs"));
        assert!(flag, "{name}: rustdoc-args = [\"--cfg\", \"docsrs\"]");
        let library = package
            .targets
            .iter()
            .find(|target| target.is_lib() || target.is_proc_macro());
        let root = fs::read_to_string(&library.unwrap().src_path).unwrap();
        let shown = root.contains("#![cfg_attr(docsrs, feature(doc_cfg))]");
        assert!(
            shown || package.features.is_empty(),
            "{name}: doc_cfg shows which item needs which feature"
        );
    }
}

#[test]
fn every_published_package_carries_its_licences() {
    for package in PROJECT.published() {
        let arguments = [
            "package",
            "--list",
            "--offline",
            "--allow-dirty",
            "--package",
            package.name.as_str(),
        ];
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(arguments)
            .current_dir(PROJECT.root())
            .output()
            .unwrap();
        let (listed, problem) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{}: {problem}", package.name);
        for file in ["LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md", "README.md"] {
            assert!(
                listed.lines().any(|line| line == file),
                "{} is published without {file}",
                package.name
            );
        }
        for file in ["LICENSE-MIT", "LICENSE-APACHE", "CHANGELOG.md"] {
            let (own, roots) = (
                fs::read(folder(package).join(file)),
                fs::read(PROJECT.root().join(file)),
            );
            assert!(
                own.unwrap() == roots.unwrap(),
                "{}: {file} is another one than at the root",
                package.name
            );
        }
    }
}

/// A library's first file has its parts in one order: the words, what is public, what is inside.
#[test]
fn every_library_begins_with_what_it_is_for() {
    let libraries = PROJECT
        .packages()
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_lib());
    for Target { src_path, .. } in libraries {
        let text = fs::read_to_string(src_path).unwrap();
        assert!(
            text.starts_with("//! "),
            "{src_path} begins with what the library is for"
        );
    }
}
