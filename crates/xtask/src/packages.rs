use std::process::{Command, Stdio};

use larder_testkit::find_server;

/// A program that the machine may lack, and how the package managers that we know install it.
pub(crate) struct Package {
    name: &'static str,
    is_there: fn() -> bool,
    managers: &'static [(&'static str, &'static [&'static [&'static str]])],
    missing: &'static str,
}

pub(crate) const REDIS: Package = Package {
    name: "redis-server",
    is_there: || find_server().is_some(),
    managers: &[
        ("apt-get", &[&["apt-get", "update", "-qq"], &["apt-get", "install", "-y", "-qq", "redis-server"]]),
        ("dnf", &[&["dnf", "install", "-y", "-q", "valkey"], &["dnf", "install", "-y", "-q", "redis"]]),
        ("apk", &[&["apk", "add", "--quiet", "redis"]]),
        ("brew", &[&["brew", "install", "--quiet", "redis"]]),
    ],
    missing: "Neither redis-server nor valkey-server is on the PATH and none could be installed: install one of them, for \
              example with `apt-get install redis-server` or `brew install redis`.",
};

pub(crate) const VALGRIND: Package = Package {
    name: "valgrind",
    is_there: || runs(&["valgrind", "--version"]),
    managers: &[
        ("apt-get", &[&["apt-get", "update", "-qq"], &["apt-get", "install", "-y", "-qq", "valgrind"]]),
        ("dnf", &[&["dnf", "install", "-y", "-q", "valgrind"]]),
        ("apk", &[&["apk", "add", "--quiet", "valgrind"]]),
    ],
    missing: "valgrind is not on the PATH and could not be installed: install it, for example with `apt-get install valgrind`.",
};

impl Package {
    /// Sees to it that the program is there.
    pub(crate) fn provide(&self) -> Result<(), String> {
        if (self.is_there)() {
            return Ok(());
        }
        for (manager, attempts) in self.managers {
            if !runs(&[manager, "--version"]) {
                continue;
            }
            println!("── {} is missing: installing it with {manager}", self.name);
            for attempt in *attempts {
                // Where we are not root, only a sudo that asks nothing is used.
                let done = *manager != "brew" && runs(&[&["sudo", "-n"], *attempt].concat());
                if !done {
                    runs(attempt);
                }
                if (self.is_there)() {
                    return Ok(());
                }
            }
        }
        Err(self.missing.to_owned())
    }
}

fn runs(words: &[&str]) -> bool {
    let Some((program, args)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    // RUNLEVEL keeps Debian from starting the service that a package brings.
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
