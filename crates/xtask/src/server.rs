use std::process::{Command, Stdio};

use larder_testkit::{RedisServer, find_server};

/// How the package managers that we know install a server.
const MANAGERS: [(&str, &[&[&str]]); 4] = [
    ("apt-get", &[&["apt-get", "update", "-qq"], &["apt-get", "install", "-y", "-qq", "redis-server"]]),
    ("dnf", &[&["dnf", "install", "-y", "-q", "valkey"], &["dnf", "install", "-y", "-q", "redis"]]),
    ("apk", &[&["apk", "add", "--quiet", "redis"]]),
    ("brew", &[&["brew", "install", "--quiet", "redis"]]),
];

const MISSING: &str = "Neither redis-server nor valkey-server is on the PATH and none could be installed: \
                       install one of them, for example with `apt-get install redis-server` or `brew install redis`.";

/// Sees to it that there is a server to start.
pub(crate) fn provide() -> Result<(), String> {
    if find_server().is_some() {
        return Ok(());
    }
    for (manager, attempts) in MANAGERS {
        if !runs(&[manager, "--version"]) {
            continue;
        }
        println!("── redis-server is missing: installing it with {manager}");
        for attempt in attempts {
            // Where we are not root, only a sudo that asks nothing is used.
            let done = manager != "brew" && runs(&[&["sudo", "-n"], *attempt].concat());
            if !done {
                runs(attempt);
            }
            if find_server().is_some() {
                return Ok(());
            }
        }
    }
    Err(MISSING.to_owned())
}

fn runs(words: &[&str]) -> bool {
    let Some((program, args)) = words.split_first() else { return false };
    let mut command = Command::new(program);
    // RUNLEVEL keeps Debian from starting the service that the package brings.
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs something while a private server runs.
pub(crate) fn with(run: impl FnOnce(&str) -> Result<(), String>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let server = runtime.block_on(RedisServer::start()).map_err(|error| error.to_string())?;
    run(&server.url())
}
