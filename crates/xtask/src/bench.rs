use std::fs;

use crate::{
    packages::{Installs, REDIS, VALGRIND},
    steps::Steps,
};

/// The packages that bring contenders, and their programs. Each has a lock file of its own, so that
/// nobody who builds larder builds its peers.
const PACKAGES: [(&str, &str); 2] = [
    ("benches/peers", "peers"),
    ("benches/peers-oxcache", "peers-oxcache"),
];

/// The target folder of both, so that they build their common dependencies once.
const TARGET: &str = "target/peers";

/// Where criterion leaves its estimates, for the report: not among those of a developer's own runs.
const ESTIMATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/benchmarks");

/// Builds everything, has it measured, and has the report written.
pub(crate) fn run(options: &[String], installs: Installs) -> Result<(), String> {
    REDIS.provide(installs)?;
    VALGRIND.provide(installs)?;
    let steps = Steps::new();
    let mut words: Vec<String> = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "larder-comparison",
        "--",
    ]
    .map(str::to_owned)
    .into();
    for (folder, program) in PACKAGES {
        let manifest = format!("{folder}/Cargo.toml");
        let build = [
            "build",
            "--release",
            "--locked",
            "--target-dir",
            TARGET,
            "--manifest-path",
            &manifest,
        ];
        steps.cargo(&format!("build {folder}"), &build, &[])?;
        words.extend([
            "--program".to_owned(),
            format!("{TARGET}/release/{program}"),
        ]);
    }
    let _ = fs::remove_dir_all(ESTIMATES);
    if !options
        .iter()
        .any(|option| option == "--only" || option == "--render")
    {
        // Fewer samples than criterion takes by itself: the medians are what is shown.
        let mut criterion = vec!["bench", "--quiet", "-p", "larder-benches"];
        criterion.extend(
            ["l1_hit", "l2_read", "calls"]
                .into_iter()
                .flat_map(|bench| ["--bench", bench]),
        );
        criterion.extend(["--", "--noplot"]);
        match options.iter().any(|option| option == "--quick") {
            true => criterion.push("--quick"),
            false => criterion.extend(["--warm-up-time", "1", "--measurement-time", "4"]),
        }
        steps
            .with_env("CRITERION_HOME", ESTIMATES)
            .cargo("criterion", &criterion, &[])?;
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    steps.cargo("bench", &words, options)
}
