//! Files, functions and comments.

use std::fs;

use larder_tidy::{
    Modules, Source, comments, functions,
    imports::circles,
    rules::{self, PROTOCOL},
};

use crate::{CONTRACT, PROJECT, findings::expect_none};

const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 60;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = [
    "common", "util", "utils", "helper", "helpers", "misc", "manager",
];

#[test]
fn files_are_short_enough_to_be_read() {
    let lengths = PROJECT
        .rust()
        .map(|source| (source.path.clone(), source.text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LONGEST_FILE);
    expect_none(
        "files",
        long.map(|(path, lines)| (path, format!(" has {lines} lines: split it"))),
    );
}

#[test]
fn functions_are_short_enough_to_be_read() {
    let all = PROJECT.rust().flat_map(|source| {
        let functions = functions::functions(&source.text).unwrap();
        functions
            .into_iter()
            .map(|function| (source.path.clone(), function))
    });
    let long = all.filter(|(path, function)| path != CONTRACT && function.lines > LONGEST_FUNCTION);
    expect_none(
        "functions",
        long.map(|(path, function)| {
            (
                path,
                format!(
                    ":{} {} has {} lines: split it",
                    function.line, function.name, function.lines
                ),
            )
        }),
    );
}

#[test]
fn files_do_not_use_each_other_in_a_circle() {
    let mut found = Vec::new();
    for target in PROJECT
        .packages()
        .iter()
        .flat_map(|package| &package.targets)
    {
        let modules = Modules::read(target.src_path.as_std_path(), &|path| {
            fs::read_to_string(path).ok()
        })
        .unwrap();
        for circle in circles(&modules, &|path| PROJECT.relative(path)) {
            found.push((circle.steps[0].file.clone(), format!(": {circle}")));
        }
    }
    expect_none("circles", found);
}

#[test]
fn names_of_files_and_folders_say_what_is_inside() {
    let empty = PROJECT.sources().iter().filter(|source| {
        source
            .path
            .split('/')
            .any(|part| EMPTY_NAMES.contains(&part.trim_end_matches(".rs")))
    });
    let problem = |path: &str| {
        (
            path.to_owned(),
            ": give what is shared a noun of its own".to_owned(),
        )
    };
    expect_none("names", empty.map(|source| problem(&source.path)));
}

/// The files whose comments are the project's own.
fn sources() -> impl Iterator<Item = &'static Source> {
    PROJECT
        .sources()
        .iter()
        .filter(|source| source.path != CONTRACT)
}

fn remarks(check: &str, found: impl Iterator<Item = comments::Remark>) {
    expect_none(
        check,
        found.map(|remark| (remark.path, format!(":{}: {}", remark.line, remark.problem))),
    );
}

#[test]
fn doc_comments_stand_alone() {
    remarks("first words", sources().flat_map(comments::headless));
}

#[test]
fn comments_are_wrapped() {
    remarks("columns", sources().flat_map(comments::too_wide));
}

#[test]
fn rules_are_called_by_number_and_slug() {
    let rules = rules::stated(&PROJECT.read(PROTOCOL).unwrap());
    remarks(
        "slugs",
        sources().flat_map(|source| comments::unnamed_rules(source, &rules)),
    );
}
