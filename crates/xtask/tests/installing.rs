//! A chore that lacks a program: on a machine whose PATH holds only what a test put there.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

/// A folder that is the whole PATH.
struct Machine {
    path: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            path: TempDir::new().unwrap(),
        };
        machine.install("id", "#!/bin/sh\necho 0\n");
        machine
    }

    fn install(&self, name: &str, script: &str) {
        let file = self.path.path().join(name);
        fs::write(&file, script).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A package manager that notes what it is asked for, and installs nothing.
    fn with_apt_get(self) -> Self {
        let log = self.log();
        self.install(
            "apt-get",
            &format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display()),
        );
        self
    }

    fn log(&self) -> std::path::PathBuf {
        self.path.path().join("log")
    }

    /// The commands that the package manager was given.
    fn asked(&self) -> Vec<String> {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        log.lines()
            .filter(|line| *line != "--version")
            .map(str::to_owned)
            .collect()
    }

    fn xtask(&self, options: &[&str]) -> Output {
        let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
        // Where a chore went on, it would fail at once: this cargo does nothing.
        let cargo = self.path.path().join("cargo");
        self.install("cargo", "#!/bin/sh\nexit 1\n");
        Command::new(xtask)
            .args(options)
            .env("PATH", self.path.path())
            .env("CARGO", cargo)
            .output()
            .unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_missing_server_is_installed_with_each_command_printed() {
    let machine = Machine::new().with_apt_get();
    let output = machine.xtask(&["test"]);
    assert!(!output.status.success());
    let commands = [
        "$ apt-get update -qq",
        "$ apt-get install -y -qq redis-server",
    ];
    let printed: Vec<String> = stdout(&output)
        .lines()
        .filter(|line| line.starts_with('$'))
        .map(str::to_owned)
        .collect();
    assert_eq!(printed, commands);
    assert_eq!(
        machine.asked(),
        ["update -qq", "install -y -qq redis-server"]
    );
    assert!(
        stderr(&output).contains("none could be installed"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn no_install_refuses_and_names_the_commands() {
    for chore in ["test", "chaos", "outages", "guard", "bench"] {
        let machine = Machine::new().with_apt_get();
        let output = machine.xtask(&[chore, "--no-install"]);
        assert!(!output.status.success(), "{chore}");
        assert_eq!(machine.asked(), Vec::<String>::new(), "{chore}");
        assert_eq!(
            stderr(&output).trim_end(),
            "redis-server is missing, and --no-install forbids to install it. These commands would:\n  \
             apt-get update -qq\n  apt-get install -y -qq redis-server",
            "{chore}"
        );
    }
}

#[test]
fn the_tour_goes_on_without_a_server_that_may_not_be_installed() {
    let machine = Machine::new().with_apt_get();
    let output = machine.xtask(&["tour", "--no-install"]);
    let printed = stdout(&output);
    assert!(
        printed.contains("--no-install forbids to install it"),
        "{printed}"
    );
    assert!(
        printed.contains("The tour goes on with L1 only."),
        "{printed}"
    );
    assert_eq!(machine.asked(), Vec::<String>::new());
}

#[test]
fn a_user_who_is_not_root_is_shown_the_sudo() {
    let machine = Machine::new().with_apt_get();
    machine.install("id", "#!/bin/sh\necho 1000\n");
    let output = machine.xtask(&["test", "--no-install"]);
    assert!(
        stderr(&output).contains("  sudo -n apt-get update -qq\n"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn without_a_package_manager_the_message_says_what_to_install() {
    for options in [["test"].as_slice(), &["test", "--no-install"]] {
        let output = Machine::new().xtask(options);
        assert!(
            stderr(&output).starts_with("Neither redis-server nor valkey-server is on the PATH"),
            "{options:?}"
        );
    }
}
