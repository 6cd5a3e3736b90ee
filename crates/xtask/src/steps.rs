use std::{
    path::Path,
    process::{Command, Stdio},
};

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
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    cargo
}
