use std::process::{Command, Stdio};

use larder_testkit::find_server;

/// A program that the machine may lack, and the commands that install it.
pub(crate) struct Package {
    name: &'static str,
    is_there: fn() -> bool,
    managers: &'static [Manager],
    /// Says what to do where nothing could be installed.
    missing: &'static str,
}

/// A package manager, and the commands to try with it, one after another.
struct Manager {
    program: &'static str,
    needs_root: bool,
    commands: &'static [&'static [&'static str]],
}

pub(crate) const REDIS: Package = Package {
    name: "redis-server",
    is_there: || find_server().is_some(),
    managers: &[
        Manager {
            program: "apt-get",
            needs_root: true,
            commands: &[
                &["apt-get", "update", "-qq"],
                &["apt-get", "install", "-y", "-qq", "redis-server"],
            ],
        },
        Manager {
            program: "dnf",
            needs_root: true,
            commands: &[
                &["dnf", "install", "-y", "-q", "valkey"],
                &["dnf", "install", "-y", "-q", "redis"],
            ],
        },
        Manager {
            program: "apk",
            needs_root: true,
            commands: &[&["apk", "add", "--quiet", "redis"]],
        },
        Manager {
            program: "brew",
            needs_root: false,
            commands: &[&["brew", "install", "--quiet", "redis"]],
        },
    ],
    missing: "Neither redis-server nor valkey-server is on the PATH, and none could be installed: install one of them, for \
              example with `apt-get install redis-server` or `brew install redis`.",
};

pub(crate) const VALGRIND: Package = Package {
    name: "valgrind",
    is_there: || is_program("valgrind"),
    managers: &[
        Manager {
            program: "apt-get",
            needs_root: true,
            commands: &[
                &["apt-get", "update", "-qq"],
                &["apt-get", "install", "-y", "-qq", "valgrind"],
            ],
        },
        Manager {
            program: "dnf",
            needs_root: true,
            commands: &[&["dnf", "install", "-y", "-q", "valgrind"]],
        },
        Manager {
            program: "apk",
            needs_root: true,
            commands: &[&["apk", "add", "--quiet", "valgrind"]],
        },
    ],
    missing: "valgrind is not on the PATH and could not be installed: install it, for example with `apt-get install valgrind`.",
};

/// Whether a missing program may be installed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Installs {
    /// By default: each command is printed before it runs.
    Printed,
    /// With `--no-install`.
    Refused,
}

impl Installs {
    /// Takes `--no-install` out of a chore's options.
    pub(crate) fn from_options(options: &mut Vec<String>) -> Self {
        let before = options.len();
        options.retain(|option| option != "--no-install");
        if options.len() < before {
            Self::Refused
        } else {
            Self::Printed
        }
    }
}

impl Package {
    /// Sees to it that the program is there.
    pub(crate) fn provide(&self, installs: Installs) -> Result<(), String> {
        if (self.is_there)() {
            return Ok(());
        }
        let Some(manager) = self
            .managers
            .iter()
            .find(|manager| is_program(manager.program))
        else {
            return Err(self.missing.to_owned());
        };
        let commands: Vec<Vec<&str>> = manager
            .commands
            .iter()
            .map(|command| manager.full(command))
            .collect();
        if installs == Installs::Refused {
            let commands: Vec<String> = commands
                .iter()
                .map(|command| format!("  {}", command.join(" ")))
                .collect();
            return Err(format!(
                "{} is missing, and --no-install forbids to install it. These commands would:\n{}",
                self.name,
                commands.join("\n")
            ));
        }
        println!(
            "── {} is missing: installing it (--no-install refuses)",
            self.name
        );
        for command in commands {
            println!("$ {}", command.join(" "));
            runs(&command);
            if (self.is_there)() {
                return Ok(());
            }
        }
        Err(self.missing.to_owned())
    }
}

impl Manager {
    /// The command as it is run: where we are not root, by a sudo that asks nothing.
    fn full<'a>(&self, command: &[&'a str]) -> Vec<&'a str> {
        match self.needs_root && !is_root() {
            true => [&["sudo", "-n"], command].concat(),
            false => command.to_vec(),
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    // Where nobody can say who we are, sudo would not be there either.
    id.map_or(true, |id| id.stdout.trim_ascii() == b"0")
}

fn is_program(name: &str) -> bool {
    runs(&[name, "--version"])
}

fn runs(words: &[&str]) -> bool {
    let Some((program, args)) = words.split_first() else {
        return false;
    };
    let mut command = Command::new(program);
    // RUNLEVEL keeps Debian from starting the service that a package brings.
    command
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("RUNLEVEL", "1");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
