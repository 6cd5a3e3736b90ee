//! Broken copies of the code, which the checker has to find.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tokio::time::Instant;
use toml::{Table, Value};

use crate::Problem;

/// A change that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, which begins with the rule's.
    pub name: String,
    /// The rule's breach, in words.
    pub why: String,
    /// The file, from the project's root.
    pub file: String,
    /// The text that is replaced. It occurs once.
    pub from: String,
    /// The text in its place.
    pub to: String,
    /// The faults among which it is looked for, with commas between them; all, if there are none.
    pub among: Option<String>,
}

/// How long a mutant is looked for.
const PATIENCE: Duration = Duration::from_secs(180);

/// When a mutant was found, and by which breach; none if it was not.
pub type Search = Option<(Duration, String)>;

/// The project's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Reads the checker's own `mutants.toml`.
///
/// # Errors
/// As for [`listed`].
pub fn all() -> Result<Vec<Mutant>, Problem> {
    listed("tests/chaos/mutants.toml")
}

/// Reads a list of mutants, given by its path from the project's root.
///
/// # Errors
/// If it cannot be read, or has other keys than those of a [`Mutant`].
pub fn listed(path: &str) -> Result<Vec<Mutant>, Problem> {
    let text = fs::read_to_string(root().join(path))?;
    let mut mutants = Vec::new();
    for (name, fields) in text.parse::<Table>()? {
        let field = |key: &str| {
            let text = fields.get(key).and_then(Value::as_str).map(str::to_owned);
            text.ok_or_else(|| format!("{name} has no {key}"))
        };
        mutants.push(Mutant {
            why: field("why")?,
            file: field("file")?,
            from: field("from")?,
            to: field("to")?,
            among: field("among").ok(),
            name,
        });
    }
    Ok(mutants)
}

impl Mutant {
    /// Returns the changed text of its file.
    ///
    /// # Errors
    /// If the file cannot be read, or the text does not occur exactly once.
    pub fn apply(&self) -> Result<String, Problem> {
        let text = fs::read_to_string(root().join(&self.file))?;
        match text.matches(&self.from).count() {
            1 => Ok(text.replace(&self.from, &self.to)),
            times => Err(format!(
                "mutant {}: its text occurs {times} times in {}: {}",
                self.name, self.file, self.from
            )
            .into()),
        }
    }
}

/// Looks for mutants with the history checker, see [`hunt`].
///
/// # Errors
/// As for [`hunt`].
pub fn find(names: &[&str]) -> Result<bool, Problem> {
    hunt(all()?, names, "chaos", &search)
}

/// Builds each of these mutants in a copy of the project, and has the program search for a breach.
/// Prints how long that took. Returns whether all were found.
///
/// # Errors
/// If a name is unknown, a mutant cannot be made or built, or a search does not work out.
pub fn hunt(
    mut mutants: Vec<Mutant>,
    names: &[&str],
    program: &str,
    search: &dyn Fn(&Path, &Mutant) -> Result<Search, Problem>,
) -> Result<bool, Problem> {
    if let Some(unknown) = names
        .iter()
        .find(|name| mutants.iter().all(|mutant| mutant.name != **name))
    {
        return Err(format!("there is no mutant {unknown}").into());
    }
    mutants.retain(|mutant| names.is_empty() || names.contains(&mutant.name.as_str()));
    for mutant in &mutants {
        mutant.apply()?;
    }
    let folder = root().join("target/mutants");
    let tree = folder.join("tree");
    copy_project(&tree)?;
    let mut missed = 0;
    for mutant in &mutants {
        let (place, text) = (tree.join(&mutant.file), mutant.apply()?);
        let original = fs::read_to_string(&place)?;
        fs::write(&place, text)?;
        let built = build(&tree, &folder.join("build"), program);
        fs::write(&place, original)?;
        match search(&built?, mutant)? {
            Some((after, what)) => println!(
                "{:22} found after {:5.1} s  {}\n{:22} {what}",
                mutant.name,
                after.as_secs_f64(),
                mutant.why,
                ""
            ),
            None => {
                missed += 1;
                println!("{:22} NOT FOUND  {}", mutant.name, mutant.why);
            }
        }
    }
    println!(
        "{} of {} mutants found",
        mutants.len() - missed,
        mutants.len()
    );
    Ok(missed == 0)
}

/// Copies all files that git knows or would know. Files that are equal keep their time, so that
/// they are not built again.
fn copy_project(tree: &Path) -> Result<(), Problem> {
    let listed = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()?;
    for file in String::from_utf8(listed.stdout)?.split('\0') {
        let Ok(content) = fs::read(root().join(file)) else {
            continue; // it was removed
        };
        let copy = tree.join(file);
        if fs::read(&copy).is_ok_and(|copied| copied == content) {
            continue;
        }
        if let Some(parent) = copy.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(copy, content)?;
    }
    Ok(())
}

/// Builds the copy, and returns its program.
fn build(tree: &Path, target: &Path, program: &str) -> Result<PathBuf, Problem> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--workspace", "--all-features"])
        .args(["--bin", program, "--target-dir"])
        .arg(target)
        .current_dir(tree)
        .status()?;
    match built.success() {
        true => Ok(target.join("debug").join(program)),
        false => Err("the mutant is not built".into()),
    }
}

/// Runs a program a minute at a time, until a run breaks the promise. Returns how long that took,
/// and the first breach.
fn search(program: &Path, mutant: &Mutant) -> Result<Search, Problem> {
    let among = mutant.among.as_deref();
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let run = Command::new(program)
            .args(["--minutes", "1", "--pause-ms", "300", "--until-found"])
            .args(["--report", "/dev/null"])
            .args(among.map(|among| ["--faults", among]).into_iter().flatten())
            .output()?;
        let said = String::from_utf8_lossy(&run.stdout).into_owned();
        if run.status.code() == Some(1) {
            return Ok(Some((began.elapsed(), first_breach(&said))));
        }
        if !run.status.success() {
            let complaint = String::from_utf8_lossy(&run.stderr);
            return Err(format!("the run did not work out: {complaint}{said}").into());
        }
    }
    Ok(None)
}

fn first_breach(said: &str) -> String {
    let lines = said
        .lines()
        .skip_while(|line| !line.contains("reads failed"));
    let breach = lines.filter(|line| line.starts_with("  ")).last();
    breach.unwrap_or_default().trim().to_owned()
}
