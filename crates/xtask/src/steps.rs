use std::process::{Command, Stdio};

/// The project's root.
pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Runs cargo step by step, from the project's root, and stops at the first failure.
#[derive(Clone)]
pub(crate) struct Steps {
    env: Vec<(String, String)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { env: Vec::new() }
    }

    /// Adds a variable to the environment of the steps.
    pub(crate) fn with_env(&self, name: &str, value: &str) -> Self {
        let mut env = self.env.clone();
        env.push((name.to_owned(), value.to_owned()));
        Self { env }
    }

    pub(crate) fn cargo(&self, step: &str, args: &[&str], more: &[String]) -> Result<(), String> {
        println!("── {step}");
        let mut cargo = cargo();
        // What the caller's shell says of a server must not reach a test.
        cargo.args(args).args(more).env_remove("REDIS_URL");
        cargo.envs(self.env.iter().map(|(name, value)| (name, value)));
        match cargo.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(format!("failed: {step} (cargo {})", args.join(" "))),
            Err(error) => Err(format!("cargo cannot be started: {error}")),
        }
    }

    pub(crate) fn cargo_if_installed(&self, tool: &str, args: &[&str]) -> Result<(), String> {
        let asked = cargo()
            .args([tool, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if asked.is_ok_and(|status| status.success()) {
            return self.cargo(tool, args, &[]);
        }
        println!("── {tool}: cargo-{tool} is not installed, so this step is left out");
        Ok(())
    }

    /// The platform that cargo builds for by default, as a target's name.
    pub(crate) fn host(&self) -> Result<String, String> {
        let said = cargo().arg("-vV").output();
        let said = said.map_err(|error| format!("cargo cannot be started: {error}"))?;
        let said = String::from_utf8_lossy(&said.stdout);
        let host = said.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(host
            .ok_or("cargo does not say which platform it runs on")?
            .to_owned())
    }
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(ROOT);
    cargo
}
