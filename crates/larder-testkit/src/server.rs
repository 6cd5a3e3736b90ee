use std::{
    ffi::OsString,
    fs, io,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

use crate::{Client, Reply};

/// A private Redis or Valkey server: own port on loopback, temporary folder, nothing persistent. It stops when this is
/// dropped, and also when the process that started it dies in any other way. Its log is printed if a test panics.
#[derive(Debug)]
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    tls: Option<Tls>,
    /// Where the nodes of its cluster talk to it.
    bus_port: Option<u16>,
    options: RedisServerBuilder,
    running: Option<Running>,
}

/// Describes a [`RedisServer`] with options of its own.
#[derive(Clone, Debug, Default)]
pub struct RedisServerBuilder {
    password: Option<String>,
    args: Vec<String>,
    tls: bool,
    cluster: bool,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// Neither program is on the PATH.
    #[error(
        "neither redis-server nor valkey-server is installed: install one, on Debian with apt-get install redis-server"
    )]
    NotInstalled,
    /// It could not be started.
    #[error("the private redis-server does not start; its log:\n{log}")]
    DoesNotStart {
        /// What it wrote.
        log: String,
    },
    /// The machine did not let us.
    #[error("the private redis-server cannot be set up")]
    Io(#[from] io::Error),
    /// Its certificate could not be made.
    #[error("the private redis-server's certificate cannot be made")]
    Certificate(#[from] rcgen::Error),
}

#[derive(Debug)]
struct Tls {
    port: u16,
    certificate: String,
}

#[derive(Debug)]
struct Running {
    shell: Child,
    pid: u32,
}

/// Starts the server and waits until its own standard input ends, which happens however the parent ends; then kills it.
const KEEPER: &str =
    r#""$@" >/dev/null 2>&1 & pid=$!; exec 2>/dev/null; echo $pid; cat >/dev/null; kill -9 $pid; wait $pid"#;

const START_BOUND: Duration = Duration::from_secs(10);
/// Somebody else may take the port between our look and the server's start.
const START_TRIES: usize = 5;

/// Finds `redis-server` or `valkey-server` on the PATH.
pub fn find_server() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["redis-server", "valkey-server"]
        .into_iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|program| program.is_file())
}

impl RedisServerBuilder {
    /// Asks every client for this password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds words to the server's command line, such as `["--maxmemory", "10mb"]`.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Listens for TLS too, with a certificate of its own.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes it a node of a cluster, which nothing is assigned to yet; see [`RedisCluster`](crate::RedisCluster).
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running then.
    pub async fn start(self) -> Result<RedisServer, ServerError> {
        let mut tries = 0;
        loop {
            let mut server = RedisServer {
                folder: tempfile::Builder::new().prefix("larder-redis-").tempdir()?,
                port: free_port()?,
                tls: None,
                bus_port: self.cluster.then(free_port).transpose()?,
                options: self.clone(),
                running: None,
            };
            if self.tls {
                server.tls = Some(make_certificate(&server.folder)?);
            }
            tries += 1;
            match server.run().await {
                Ok(()) => return Ok(server),
                Err(ServerError::DoesNotStart { .. }) if tries < START_TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl RedisServer {
    /// Starts a server with everything at its default.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running then.
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// Describes a server.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// Its address, as `host:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its host and port, and the port for the nodes of its cluster.
    pub(crate) fn cluster_address(&self) -> (&str, u16, u16) {
        ("127.0.0.1", self.port, self.bus_port.unwrap_or_default())
    }

    /// Its address for a cache, with the password if there is one.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@{}", self.addr()),
            None => format!("redis://{}", self.addr()),
        }
    }

    /// Its address over TLS, if it has one.
    pub fn tls_url(&self) -> Option<String> {
        self.tls.as_ref().map(|tls| format!("rediss://localhost:{}", tls.port))
    }

    /// The certificate to trust for TLS, in PEM.
    pub fn certificate(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| tls.certificate.as_str())
    }

    /// Its address over a Unix socket.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// What the server wrote into its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Connects as a foreign program.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn client(&self) -> io::Result<Client> {
        Client::connect(&self.addr(), self.options.password.as_deref()).await
    }

    /// Does one thing as a foreign program.
    ///
    /// # Errors
    /// What the connection said; a refusal is a reply.
    pub async fn command(&self, words: &[&str]) -> io::Result<Reply> {
        self.client().await?.command(words).await
    }

    /// Stops the server where it stands (SIGSTOP): it is there and does not answer.
    ///
    /// # Errors
    /// If it does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets a paused server go on.
    ///
    /// # Errors
    /// If it does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.shell.stdin.take()); // the keeper kills the server when its input ends
            let _ = running.shell.wait();
        }
    }

    /// Kills the server if it runs, and starts it again, empty, at the same address.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.kill();
        self.run().await
    }

    async fn run(&mut self) -> Result<(), ServerError> {
        let program = find_server().ok_or(ServerError::NotInstalled)?;
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(KEEPER)
            .arg("keeper")
            .arg(program)
            .args(self.server_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = shell.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let pid = line.trim().parse().map_err(|_| io::Error::other("the keeper names no process"))?;
        self.running = Some(Running { shell, pid });
        let give_up = Instant::now() + START_BOUND;
        while !self.answers(pid).await {
            let log = self.log();
            if Instant::now() > give_up || log.contains("Failed listening") || log.contains("already in use")
            {
                self.kill();
                return Err(ServerError::DoesNotStart { log });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn server_args(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = Vec::new();
        let mut set = |name: &str, value: OsString| args.extend([format!("--{name}").into(), value]);
        set("bind", "127.0.0.1".into());
        set("port", self.port.to_string().into());
        set("dir", self.folder.path().into());
        set("logfile", self.folder.path().join("log").into());
        set("unixsocket", self.folder.path().join("redis.sock").into());
        set("save", "".into());
        set("appendonly", "no".into());
        set("daemonize", "no".into());
        if let Some(password) = &self.options.password {
            set("requirepass", password.into());
        }
        if let Some(port) = self.bus_port {
            set("cluster-enabled", "yes".into());
            set("cluster-port", port.to_string().into());
            set("cluster-config-file", self.folder.path().join("nodes.conf").into());
        }
        if let Some(tls) = &self.tls {
            set("tls-port", tls.port.to_string().into());
            set("tls-auth-clients", "no".into());
            set("tls-cert-file", self.folder.path().join("certificate.pem").into());
            set("tls-key-file", self.folder.path().join("key.pem").into());
            set("tls-ca-cert-file", self.folder.path().join("certificate.pem").into());
        }
        args.extend(self.options.args.iter().map(OsString::from));
        args
    }

    /// Whether it is this process that answers, and not another server that took the port first.
    async fn answers(&self, pid: u32) -> bool {
        let info = self.command(&["INFO", "server"]).await.ok().and_then(|reply| reply.text());
        info.is_some_and(|info| info.lines().any(|line| line == format!("process_id:{pid}")))
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let running = self.running.as_ref().ok_or_else(|| io::Error::other("the server does not run"))?;
        let sent = Command::new("kill").arg(signal).arg(running.pid.to_string()).status()?;
        if sent.success() { Ok(()) } else { Err(io::Error::other("the signal was not sent")) }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the private server on port {}:\n{}", self.port, self.log());
        }
        self.kill();
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn make_certificate(folder: &TempDir) -> Result<Tls, ServerError> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names)?;
    let certificate = made.cert.pem();
    fs::write(folder.path().join("certificate.pem"), &certificate)?;
    fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())?;
    Ok(Tls { port: free_port()?, certificate })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn set_and_get(server: &RedisServer, value: &str) {
        server.command(&["SET", "k", value]).await.unwrap();
        assert_eq!(server.command(&["GET", "k"]).await.unwrap().text().as_deref(), Some(value));
    }

    #[tokio::test]
    async fn servers_are_private_and_end_with_their_value() {
        let one = RedisServer::start().await.unwrap();
        let other = RedisServer::builder().password("hidden").start().await.unwrap();
        set_and_get(&one, "1").await;
        set_and_get(&other, "2").await;
        assert_eq!(one.command(&["GET", "k"]).await.unwrap().text().as_deref(), Some("1"));
        let address = one.addr();
        drop(one);
        assert!(Client::connect(&address, None).await.is_err(), "the server is still there");
        set_and_get(&other, "3").await;
    }

    #[tokio::test]
    async fn server_whose_port_another_one_has_does_not_start() {
        let one = RedisServer::start().await.unwrap();
        let mut other = RedisServer {
            folder: tempfile::tempdir().unwrap(),
            port: one.port,
            tls: None,
            bus_port: None,
            options: RedisServerBuilder::default(),
            running: None,
        };
        assert!(matches!(other.run().await, Err(ServerError::DoesNotStart { .. })));
    }

    #[tokio::test]
    async fn restarted_server_is_empty_and_at_the_same_address() {
        let mut server = RedisServer::start().await.unwrap();
        let address = server.addr();
        set_and_get(&server, "1").await;
        server.restart().await.unwrap();
        assert_eq!(server.addr(), address);
        assert_eq!(server.command(&["GET", "k"]).await.unwrap(), Reply::Nil);
    }

    #[tokio::test]
    async fn proxy_delays_cuts_stalls_and_refuses() {
        let server = RedisServer::start().await.unwrap();
        let proxy = crate::Proxy::start(&server.addr()).await.unwrap();
        let mut client = Client::connect(&proxy.addr(), None).await.unwrap();
        assert_eq!(client.command(&["PING"]).await.unwrap().text().as_deref(), Some("PONG"));

        proxy.stall(crate::Direction::ToClient, true);
        let held = tokio::spawn(async move { (client.command(&["INCR", "n"]).await, client) });
        while server.command(&["GET", "n"]).await.unwrap() == Reply::Nil {}
        assert!(!held.is_finished(), "the reply is held back");
        proxy.stall(crate::Direction::ToClient, false);
        let (reply, mut client) = held.await.unwrap();
        assert_eq!(reply.unwrap(), Reply::Integer(1));

        let delay = Duration::from_millis(50);
        proxy.delay(delay);
        let start = Instant::now();
        assert!(client.command(&["PING"]).await.is_ok());
        assert!(start.elapsed() >= delay, "{:?}", start.elapsed());
        proxy.delay(Duration::ZERO);

        proxy.refuse(true);
        proxy.cut();
        assert!(client.command(&["PING"]).await.is_err());
        let mut refused = Client::connect(&proxy.addr(), None).await.unwrap();
        assert!(refused.command(&["PING"]).await.is_err());
        proxy.refuse(false);
        assert!(Client::connect(&proxy.addr(), None).await.unwrap().command(&["PING"]).await.is_ok());
    }
}
