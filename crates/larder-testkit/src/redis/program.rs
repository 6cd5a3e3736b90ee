use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
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

/// The variable with the path of the server that tests run on, instead of the one on the PATH.
pub const SERVER_VARIABLE: &str = "LARDER_SERVER";

/// Finds the server that tests run on: the program that `LARDER_SERVER` names, else `redis-server`
/// or `valkey-server` on the PATH.
///
/// ```
/// if let Some(program) = larder_testkit::find_server() {
///     println!("tests run on {}", program.display());
/// }
/// ```
pub fn find_server() -> Option<PathBuf> {
    if let Some(program) = std::env::var_os(SERVER_VARIABLE) {
        return Some(program.into()).filter(|program: &PathBuf| program.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

/// Asks a server's program for its major and minor version, such as 7 and 0.
///
/// ```
/// if let Some(program) = larder_testkit::find_server() {
///     assert!(larder_testkit::version_of(&program) >= Some((6, 2)));
/// }
/// ```
pub fn version_of(program: &Path) -> Option<(u32, u32)> {
    let said = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said
        .split_whitespace()
        .find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Tells whether the server that tests run on was built with TLS.
///
/// ```
/// if larder_testkit::find_server().is_some() && !larder_testkit::has_tls() {
///     println!("tests of TLS are left out");
/// }
/// ```
pub fn has_tls() -> bool {
    // A server with TLS stops because these are no certificates; others know no TLS at all.
    const ARGS: [&str; 8] = [
        "--port",
        "0",
        "--tls-port",
        "1",
        "--tls-cert-file",
        "none",
        "--tls-key-file",
        "none",
    ];
    static HAS_TLS: LazyLock<bool> = LazyLock::new(|| {
        let said = find_server().and_then(|program| {
            let said = Command::new(program)
                .args(ARGS)
                .stdin(Stdio::null())
                .output()
                .ok()?;
            Some([said.stdout, said.stderr].concat())
        });
        said.is_some_and(|said| String::from_utf8_lossy(&said).contains("Failed to configure TLS"))
    });
    *HAS_TLS
}

/// Whether the server that tests run on is older than Redis 7.0.
pub(super) fn is_before_7() -> bool {
    static BEFORE_7: LazyLock<bool> =
        LazyLock::new(|| find_server().and_then(|program| version_of(&program)) < Some((7, 0)));
    *BEFORE_7
}

/// The ACL rules that take `CLIENT TRACKING` from a user who may do everything. Redis before 7.0
/// can only take all of `CLIENT`, and give back single parts.
///
/// ```
/// let rules = ["+@all"].into_iter().chain(larder_testkit::no_tracking().iter().copied());
/// assert!(rules.count() > 1);
/// ```
pub fn no_tracking() -> &'static [&'static str] {
    if is_before_7() {
        &[
            "-client",
            "+client|id",
            "+client|info",
            "+client|kill",
            "+client|list",
            "+client|pause",
            "+client|unpause",
        ]
    } else {
        &["-client|tracking"]
    }
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

/// A port for a server of a cluster, and the one for its other nodes: before Redis 7.0 that is
/// 10,000 higher, and cannot be chosen.
pub(super) fn free_cluster_ports() -> io::Result<(u16, u16)> {
    const TRIES: usize = 1000;
    if !is_before_7() {
        return Ok((free_port()?, free_port()?));
    }
    for _ in 0..TRIES {
        let port = free_port()?;
        if let Some(bus) = port.checked_add(10_000)
            && TcpListener::bind(("127.0.0.1", bus)).is_ok()
        {
            return Ok((port, bus));
        }
    }
    Err(io::Error::other(
        "no two ports are free that are 10,000 apart",
    ))
}
