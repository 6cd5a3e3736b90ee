use crate::{server, steps::Steps};

/// The packages that bring contenders, and their programs. Each has a lock file of its own, so that nobody who builds
/// larder builds its peers.
const PACKAGES: [(&str, &str); 2] = [("benches/peers", "peers"), ("benches/peers-oxcache", "peers-oxcache")];

/// What they have in common is built once.
const TARGET: &str = "target/peers";

/// Builds everything, has it measured, and has the report written.
pub(crate) fn run(options: &[String]) -> Result<(), String> {
    server::provide()?;
    let steps = Steps::new();
    let mut words: Vec<String> =
        ["run", "--quiet", "--release", "-p", "larder-comparison", "--"].map(str::to_owned).into();
    for (folder, program) in PACKAGES {
        let manifest = format!("{folder}/Cargo.toml");
        let build = ["build", "--release", "--locked", "--target-dir", TARGET, "--manifest-path", &manifest];
        steps.cargo(&format!("build {folder}"), &build, &[])?;
        words.extend(["--program".to_owned(), format!("{TARGET}/release/{program}")]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    steps.cargo("bench", &words, options)
}
