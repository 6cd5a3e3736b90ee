use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The PATH has neither `redis-server` nor `valkey-server`.
    #[error(
        "neither redis-server nor valkey-server is installed: install one, on Debian with apt-get install redis-server"
    )]
    NotInstalled,
    /// The program ended, or did not answer within 30 s.
    #[error("the private redis-server does not start; its log:\n{log}")]
    DoesNotStart {
        /// The server's log.
        log: String,
    },
    /// The operating system refused a folder, a port or a process.
    #[error("the private redis-server cannot be set up")]
    Io(#[from] io::Error),
    /// No certificate for TLS could be made.
    #[error("the private redis-server's certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
}

/// Finds `redis-server` or `valkey-server` on the PATH.
///
/// ```
/// if let Some(program) = larder_testkit::find_server() {
///     println!("tests run on {}", program.display());
/// }
/// ```
pub fn find_server() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// A server's process, and the shell that kills it when this process ends in any way.
#[derive(Debug)]
pub(super) struct Running {
    shell: Child,
    pub(super) pid: u32,
}

/// Starts the server, waits for the end of its own standard input, which comes however the parent
/// ends, and kills the server.
const KEEPER: &str = r#""$@" >/dev/null 2>&1 & pid=$!; exec 2>/dev/null; echo $pid; cat >/dev/null; kill -9 $pid; wait $pid"#;

impl Running {
    pub(super) fn start(args: Vec<OsString>) -> Result<Self, ServerError> {
        let program = find_server().ok_or(ServerError::NotInstalled)?;
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(KEEPER)
            .arg("keeper")
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line
            .trim()
            .parse()
            .map_err(|_| io::Error::other("the keeper names no process"))?;
        Ok(Self { shell, pid })
    }

    /// Kills the server, and returns when its process is gone.
    pub(super) fn kill(mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }

    pub(super) fn signal(&self, signal: &str) -> io::Result<()> {
        let sent = Command::new("kill")
            .arg(signal)
            .arg(self.pid.to_string())
            .status()?;
        if sent.success() {
            Ok(())
        } else {
            Err(io::Error::other("the signal was not sent"))
        }
    }
}

/// Asks the operating system for a port on loopback. Another process may take it before the server.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
