use std::{ffi::OsString, fs, io, path::Path, time::Duration};

use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    certificate::{CERTIFICATE_FILE, CLIENT_FILE, Certificate, KEY_FILE},
    client::{Client, Reply},
    program::{Running, ServerError, free_cluster_ports, free_port, is_before_7, no_tracking},
};

/// A private Redis or Valkey server: its own port on loopback, a temporary folder, no persistence.
///
/// Dropping it stops the server, and so does any other end of the process that started it. If a
/// test panics, the server's log is printed.
///
/// ```
/// use larder_testkit::{RedisServer, Reply};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = RedisServer::start().await?;
/// server.command(&["SET", "user:42", "{}"]).await?;
/// assert_eq!(server.command(&["EXISTS", "user:42"]).await?, Reply::Integer(1));
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisServer {
    folder: TempDir,
    port: u16,
    certificate: Option<Certificate>,
    /// The port at which the other nodes of its cluster reach it.
    bus_port: Option<u16>,
    options: RedisServerBuilder,
    running: Option<Running>,
}

/// Describes a [`RedisServer`] before it is started.
///
/// ```
/// use larder_testkit::RedisServer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let small = RedisServer::builder().password("secret").args(&["--maxmemory", "64mb"]);
/// let server = small.start().await?;
/// assert!(server.url().starts_with("redis://:secret@127.0.0.1:"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct RedisServerBuilder {
    password: Option<String>,
    args: Vec<String>,
    tls: bool,
    asks_for_certificates: bool,
    cluster: bool,
    sentinel: bool,
}

/// 30 s: a start takes some 50 ms, and a busy machine may stop a test for seconds.
const START_BOUND: Duration = Duration::from_secs(30);
/// Another process may take the port between the look for one and the server's start.
const START_TRIES: usize = 5;

impl RedisServerBuilder {
    /// Asks every client for a password.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds words to the server's command line, such as `["--maxmemory", "10mb"]`. The ACL rule
    /// `-client|tracking` stands for [`no_tracking`](crate::no_tracking).
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Forbids clients these commands, each with a `-` in front, such as `-client|tracking`; all
    /// others stay allowed.
    ///
    /// ```
    /// # use larder_testkit::{RedisServer, Reply};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = RedisServer::builder().refusing(&["-get"]).start().await?;
    /// assert!(matches!(server.command(&["GET", "k"]).await?, Reply::Error(_)));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn refusing(self, commands: &[&str]) -> Self {
        let all = ["--user", "default", "on", "nopass", "~*", "&*", "+@all"];
        self.args(&[&all, commands].concat())
    }

    /// Listens for TLS too, with a self-signed certificate; see [`RedisServer::tls_url`].
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Listens for TLS too, and asks every client there for a certificate; see
    /// [`RedisServer::client_certificate`].
    #[must_use]
    pub fn tls_with_client_certificates(mut self) -> Self {
        (self.tls, self.asks_for_certificates) = (true, true);
        self
    }

    /// The words with which a replica logs in to its master.
    pub(super) fn replica_args(&self) -> Vec<&str> {
        match &self.password {
            Some(password) => vec!["--masterauth", password],
            None => Vec::new(),
        }
    }

    /// Starts the server in cluster mode, without slots; see [`RedisCluster`](crate::RedisCluster).
    #[must_use]
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// Starts a Sentinel that watches nothing yet.
    #[must_use]
    pub fn sentinel(mut self) -> Self {
        self.sentinel = true;
        self
    }

    /// Starts the server and waits until it answers, at most 30 s.
    ///
    /// # Errors
    /// [`ServerError`]; then no process is left running.
    pub async fn start(self) -> Result<RedisServer, ServerError> {
        let mut tries = 0;
        loop {
            let (port, bus_port) = if self.cluster {
                let (port, bus_port) = free_cluster_ports()?;
                (port, Some(bus_port))
            } else {
                (free_port()?, None)
            };
            let mut server = RedisServer {
                folder: tempfile::Builder::new().prefix("larder-redis-").tempdir()?,
                port,
                certificate: None,
                bus_port,
                options: self.clone(),
                running: None,
            };
            if self.tls {
                server.certificate = Some(Certificate::make(server.folder.path())?);
            }
            tries += 1;
            match server.run(&[]).await {
                Ok(()) => return Ok(server),
                Err(ServerError::DoesNotStart { .. }) if tries < START_TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl RedisServer {
    /// Starts a server with every option at its default.
    ///
    /// # Errors
    /// [`ServerError`]; then no process is left running.
    pub async fn start() -> Result<Self, ServerError> {
        Self::builder().start().await
    }

    /// Describes a server with options.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// Returns the address as `host:port`.
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the port on loopback for TLS; `None` for a server without TLS.
    pub fn tls_port(&self) -> Option<u16> {
        self.certificate.as_ref().map(|shown| shown.port)
    }

    pub(super) fn password(&self) -> Option<&str> {
        self.options.password.as_deref()
    }

    /// Returns the host, the port, and the port for the other nodes of the cluster.
    pub(crate) fn cluster_address(&self) -> (&str, u16, u16) {
        ("127.0.0.1", self.port, self.bus_port.unwrap_or_default())
    }

    /// Returns the address as a URL, with the password if there is one.
    pub fn url(&self) -> String {
        match &self.options.password {
            Some(password) => format!("redis://:{password}@{}", self.addr()),
            None => format!("redis://{}", self.addr()),
        }
    }

    /// Returns the address over TLS; `None` for a server without TLS.
    pub fn tls_url(&self) -> Option<String> {
        self.certificate
            .as_ref()
            .map(|certificate| format!("rediss://localhost:{}", certificate.port))
    }

    /// Returns the certificate to trust for TLS, in PEM; `None` for a server without TLS.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate
            .as_ref()
            .map(|certificate| certificate.text.as_str())
    }

    /// Returns the certificate that clients are to show, and its key, both in PEM; `None` for a
    /// server that asks for none.
    pub fn client_certificate(&self) -> Option<(&str, &str)> {
        let shown = self.certificate.as_ref();
        let shown = shown.filter(|_| self.options.asks_for_certificates);
        shown.map(|shown| (&*shown.client.0, &*shown.client.1))
    }

    /// Returns the address over a Unix socket.
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// Returns the folder in which the server keeps its files, such as `dump.rdb`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the server's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Connects like a program that shares nothing with the client under test.
    ///
    /// # Errors
    /// The connection's error.
    pub async fn client(&self) -> io::Result<Client> {
        Client::connect(&self.addr(), self.options.password.as_deref()).await
    }

    /// Runs one command over a connection of its own, see [`client`](Self::client).
    ///
    /// # Errors
    /// The connection's error. A refusal is no error: it is [`Reply::Error`].
    pub async fn command(&self, words: &[&str]) -> io::Result<Reply> {
        self.client().await?.command(words).await
    }

    /// Stops the server's process where it stands (`SIGSTOP`): connections stay open, and nothing
    /// is answered.
    ///
    /// # Errors
    /// If the server does not run.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets a paused server go on (`SIGCONT`).
    ///
    /// # Errors
    /// If the server does not run.
    pub fn resume(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// Kills the server (`SIGKILL`); its address stays reserved for [`restart`](Self::restart).
    pub fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }

    /// Starts the server again at the same address, after killing it if it runs. It loads what
    /// `SAVE` has written, if there is anything; otherwise it is empty.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.restart_with(&[]).await
    }

    /// Starts the server again like [`restart`](Self::restart), this time with more words on its
    /// command line, such as `["--appendonly", "yes"]`.
    ///
    /// # Errors
    /// [`ServerError`].
    pub async fn restart_with(&mut self, args: &[&str]) -> Result<(), ServerError> {
        self.kill();
        self.run(args).await
    }

    async fn run(&mut self, more: &[&str]) -> Result<(), ServerError> {
        let mut args = self.server_args()?;
        args.extend(more.iter().map(OsString::from));
        let running = Running::start(args)?;
        let pid = running.pid;
        self.running = Some(running);
        let give_up = Instant::now() + START_BOUND;
        while !self.answers(pid).await {
            let log = self.log();
            if Instant::now() > give_up
                || log.contains("Failed listening")
                || log.contains("already in use")
            {
                self.kill();
                return Err(ServerError::DoesNotStart { log });
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn server_args(&self) -> io::Result<Vec<OsString>> {
        let mut args: Vec<OsString> = Vec::new();
        if self.options.sentinel {
            // It keeps what it learns in its file.
            let file = self.folder.path().join("sentinel.conf");
            fs::write(&file, "")?;
            args.extend([file.into(), "--sentinel".into()]);
        }
        let mut set =
            |name: &str, value: OsString| args.extend([format!("--{name}").into(), value]);
        set("bind", "127.0.0.1".into());
        set("port", self.port.to_string().into());
        set("dir", self.folder.path().into());
        set("logfile", self.folder.path().join("log").into());
        set("daemonize", "no".into());
        if !self.options.sentinel {
            set("unixsocket", self.folder.path().join("redis.sock").into());
            set("save", "".into());
            set("appendonly", "no".into());
        }
        if let Some(password) = &self.options.password {
            set("requirepass", password.into());
        }
        if let Some(port) = self.bus_port {
            set("cluster-enabled", "yes".into());
            if !is_before_7() {
                set("cluster-port", port.to_string().into());
            }
            set(
                "cluster-config-file",
                self.folder.path().join("nodes.conf").into(),
            );
        }
        if let Some(certificate) = &self.certificate {
            let file = |name: &str| self.folder.path().join(name).into();
            set("tls-port", certificate.port.to_string().into());
            let (asks, trusted) = match self.options.asks_for_certificates {
                true => ("yes", CLIENT_FILE),
                false => ("no", CERTIFICATE_FILE),
            };
            set("tls-auth-clients", asks.into());
            set("tls-cert-file", file(CERTIFICATE_FILE));
            set("tls-key-file", file(KEY_FILE));
            set("tls-ca-cert-file", file(trusted));
        }
        for arg in &self.options.args {
            match arg.as_str() {
                "-client|tracking" => args.extend(no_tracking().iter().map(OsString::from)),
                arg => args.push(arg.into()),
            }
        }
        Ok(args)
    }

    /// Whether this process answers, and not another server that took the port first.
    async fn answers(&self, pid: u32) -> bool {
        let info = self
            .command(&["INFO", "server"])
            .await
            .ok()
            .and_then(|reply| reply.text());
        info.is_some_and(|info| info.lines().any(|line| line == format!("process_id:{pid}")))
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let running = self
            .running
            .as_ref()
            .ok_or_else(|| io::Error::other("the server does not run"))?;
        running.signal(signal)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "log of the private server on port {}:\n{}",
                self.port,
                self.log()
            );
        }
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn set_and_get(server: &RedisServer, value: &str) {
        server.command(&["SET", "k", value]).await.unwrap();
        assert_eq!(
            server
                .command(&["GET", "k"])
                .await
                .unwrap()
                .text()
                .as_deref(),
            Some(value)
        );
    }

    #[tokio::test]
    async fn servers_are_private_and_end_with_their_value() {
        let one = RedisServer::start().await.unwrap();
        let other = RedisServer::builder()
            .password("hidden")
            .start()
            .await
            .unwrap();
        set_and_get(&one, "1").await;
        set_and_get(&other, "2").await;
        assert_eq!(
            one.command(&["GET", "k"]).await.unwrap().text().as_deref(),
            Some("1")
        );
        let address = one.addr();
        drop(one);
        assert!(
            Client::connect(&address, None).await.is_err(),
            "the server is still there"
        );
        set_and_get(&other, "3").await;
    }

    #[tokio::test]
    async fn server_whose_port_another_one_has_does_not_start() {
        let one = RedisServer::start().await.unwrap();
        let mut other = RedisServer {
            folder: tempfile::tempdir().unwrap(),
            port: one.port,
            certificate: None,
            bus_port: None,
            options: RedisServerBuilder::default(),
            running: None,
        };
        assert!(matches!(
            other.run(&[]).await,
            Err(ServerError::DoesNotStart { .. })
        ));
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
}
