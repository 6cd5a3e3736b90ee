use std::{collections::BTreeSet, fs, process::Command};

use larder_tidy::{
    Error, Modules, Project, functions::functions, imports::circles, public::Public,
    public::public_items,
};

/// The limits that the tidy tests keep.
const LONGEST_FILE: usize = 500;
const LONGEST_FUNCTION: usize = 60;

/// Prints figures about the layout of a project's source: of this one, or of another checkout.
pub(crate) fn run(options: &[String]) -> Result<(), String> {
    let project = match options.first() {
        Some(folder) => Project::at(folder),
        None => Project::here(),
    };
    project
        .and_then(|project| print(&project))
        .map_err(|error| error.to_string())
}

fn print(project: &Project) -> Result<(), Error> {
    let (libraries, others) = circles_of(project)?;
    println!(
        "circles of imports      {} in libraries, {} elsewhere",
        libraries.len(),
        others.len()
    );
    println!("  files in the libraries' circles  {:?}", libraries);
    let (mut long_files, mut long_functions, mut all_functions) = (0, 0, 0);
    let (mut library, mut tests, mut public) = (0, 0, Public::default());
    for source in project.rust() {
        let lines = source.text.lines().count();
        long_files += usize::from(lines > LONGEST_FILE);
        let functions = functions(&source.text)?;
        all_functions += functions.len();
        long_functions += functions
            .iter()
            .filter(|function| function.lines > LONGEST_FUNCTION)
            .count();
        if in_library(project, &source.path) {
            library += lines;
            let found = public_items(&source.text)?;
            public.items += found.items;
            public.with_example += found.with_example;
        } else if source.path.starts_with("tests/")
            || source.path.starts_with("crates/larder-testkit/")
        {
            tests += lines;
        }
    }
    println!(
        "files over {LONGEST_FILE} lines     {long_files} of {}",
        project.rust().count()
    );
    println!("functions over {LONGEST_FUNCTION} lines {long_functions} of {all_functions}");
    println!(
        "public items            {}, of them {} with an example",
        public.items, public.with_example
    );
    println!("lines of the libraries  {library}");
    println!("lines of the tests      {tests}");
    println!(
        "crates compiled         {} with default features",
        compiled(project, &[])?
    );
    println!(
        "crates compiled         {} without",
        compiled(project, &["--no-default-features"])?
    );
    let moka = compiled(project, &["--no-default-features", "--features", "moka"]);
    println!(
        "crates compiled         {} for L1 on moka only",
        moka.map_or("–".to_owned(), |count| count.to_string())
    );
    Ok(())
}

/// Whether a file belongs to a library that applications use.
fn in_library(project: &Project, path: &str) -> bool {
    let names = project
        .published()
        .map(|package| package.name.as_str())
        .filter(|name| *name != "larder-testkit");
    names
        .into_iter()
        .any(|name| path.starts_with(&format!("crates/{name}/src/")))
}

/// How many files are in each circle: of the libraries, and of everything else.
fn circles_of(project: &Project) -> Result<(Vec<usize>, Vec<usize>), Error> {
    let (mut libraries, mut others) = (Vec::new(), Vec::new());
    for target in project
        .packages()
        .iter()
        .flat_map(|package| &package.targets)
    {
        let root = target.src_path.as_std_path();
        let modules = Modules::read(root, &|path| fs::read_to_string(path).ok())?;
        let found = circles(&modules, &|path| project.relative(path));
        let into = if in_library(project, &project.relative(root)) {
            &mut libraries
        } else {
            &mut others
        };
        into.extend(found.iter().map(|circle| circle.files));
    }
    Ok((libraries, others))
}

/// How many crates an application compiles that depends on larder, larder's own among them.
fn compiled(project: &Project, features: &[&str]) -> Result<usize, Error> {
    let tree = [
        "tree",
        "--package",
        "larder",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let output = Command::new("cargo")
        .args(tree)
        .args(features)
        .current_dir(project.root())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let tree = String::from_utf8_lossy(&output.stdout);
    Ok(tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect::<BTreeSet<_>>()
        .len())
}
