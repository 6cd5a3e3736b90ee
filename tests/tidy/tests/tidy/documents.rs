use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::PROJECT;

/// Where a document may count a path from, beside its own folder: the root, and the folder of the
/// crates.
const FROM: [&str; 2] = ["", "crates"];

#[test]
fn every_file_that_a_document_names_exists() {
    let root = PROJECT.root();
    let mut missing = Vec::new();
    let documents = documents(root);
    assert!(documents.len() > 10, "the documents are found");
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let folder = document.parent().unwrap();
        let exists = |named: &str| {
            folder.join(named).exists()
                || FROM.iter().any(|from| root.join(from).join(named).exists())
        };
        for named in links(&text).chain(paths(&text)) {
            if !exists(named) {
                missing.push(format!("{}: {named}", document.display()));
            }
        }
    }
    assert!(missing.is_empty(), "no such file:\n{}", missing.join("\n"));
}

/// The files that a document links to, without what is on the web.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter_map(|link| link.split('#').next())
        .filter(|link| !link.is_empty() && !link.contains("://"))
}

/// The texts in backticks that are paths of files in the tree.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let is_path = |word: &&str| {
        let is_of_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let ends = [".rs", ".lua", ".md", ".toml"];
        word.contains('/')
            && !word.starts_with(['/', '.'])
            && word.chars().all(is_of_path)
            && ends.iter().any(|end| word.ends_with(end))
    };
    // Within a line, so that a code block's three backticks shift nothing.
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(is_path)
}

/// The documents: in the root, in `docs`, and beside the crates' code.
fn documents(root: &Path) -> Vec<PathBuf> {
    let crates = fs::read_dir(root.join("crates")).unwrap();
    let crates = crates.map(|entry| entry.unwrap().path());
    let folders = ["", "docs", "docs/guides"].map(|folder| root.join(folder));
    let entries = folders
        .into_iter()
        .chain(crates)
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .collect()
}
