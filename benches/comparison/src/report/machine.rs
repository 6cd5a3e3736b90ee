use std::{fmt, fs, process::Command};

use larder_testkit::find_server;

/// The machine and the versions behind the numbers.
#[derive(Debug)]
pub struct Machine(Vec<(&'static str, String)>);

impl Machine {
    /// Asks the system, and leaves out the facts that it does not tell.
    pub fn ask() -> Self {
        let cores = std::thread::available_parallelism()
            .map(|cores| cores.to_string())
            .ok();
        let model = line_of("/proc/cpuinfo", "model name")
            .or_else(|| said_by("sysctl", &["-n", "machdep.cpu.brand_string"]));
        let memory = line_of("/proc/meminfo", "MemTotal").and_then(|kib| {
            let kib: f64 = kib.strip_suffix("kB")?.trim().parse().ok()?;
            Some(format!("{:.0} GiB", kib / f64::from(1 << 20)))
        });
        let redis =
            find_server().and_then(|server| said_by(&server.to_string_lossy(), &["--version"]));
        let asked = [
            ("processor", model),
            ("cores", cores),
            ("memory", memory),
            ("kernel", said_by("uname", &["-srm"])),
            ("compiler", said_by("rustc", &["--version"])),
            (
                "Redis",
                redis.map(|said| said.split(" sha=").next().unwrap_or_default().to_owned()),
            ),
            ("commit", commit()),
        ];
        Self(
            asked
                .into_iter()
                .filter_map(|(what, said)| Some((what, said?)))
                .collect(),
        )
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|(what, said)| format!("| {what} | {said} |"))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

fn commit() -> Option<String> {
    let commit = said_by("git", &["rev-parse", "--short", "HEAD"])?;
    // Without docs/, into which the report itself is written.
    let changed = said_by("git", &["status", "--porcelain", "--", ".", ":!docs"]).is_some();
    Some(if changed {
        format!("{commit}, with changes")
    } else {
        commit
    })
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said_by(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!said.is_empty()).then_some(said)
}
