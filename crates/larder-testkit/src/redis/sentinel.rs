use std::{fs, io, time::Duration};

use tempfile::TempDir;
use tokio::time::Instant;

use super::{
    certificate::{CERTIFICATE_FILE, Certificate, KEY_FILE},
    client::{Client, Reply},
    program::{Running, ServerError, free_port},
    server::{RedisServer, RedisServerBuilder},
};

/// A private master with one replica, and three sentinels that watch over them. Dropping it stops
/// all of them.
///
/// ```no_run
/// use larder_testkit::RedisSentinels;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut sentinels = RedisSentinels::start().await?;
/// let old = sentinels.master().await?;
/// sentinels.servers[old].kill();
/// let new = sentinels.switched_from(old).await?;
/// assert_ne!(new, old);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisSentinels {
    /// The master of the beginning, and its replica.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    password: Option<String>,
}

/// A sentinel's process.
#[derive(Debug)]
struct Sentinel {
    folder: TempDir,
    port: u16,
    certificate: Option<Certificate>,
    running: Option<Running>,
}

/// The name under which the sentinels know the master.
const SERVICE: &str = "mymaster";
const SENTINELS: usize = 3;
/// As many sentinels must find the master gone.
const QUORUM: usize = 2;
/// 2,000 ms: how long a server may be silent. With less, the sentinels of a busy machine take a
/// living server for dead.
const DOWN_AFTER: &str = "2000";
/// 60 s: a failover takes some 4 s, and more for each election that nobody wins.
const BOUND: Duration = Duration::from_secs(60);

impl RedisSentinels {
    /// Starts all of them, and waits until the sentinels know each other and the replica.
    ///
    /// # Errors
    /// [`ServerError`]; then no process is left running.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_as(&RedisServer::builder(), None).await
    }

    /// Starts both servers with these options, and sentinels that ask every client for this
    /// password. With TLS, the sentinels listen for it too; see [`tls_url`](Self::tls_url).
    ///
    /// # Errors
    /// [`ServerError`]; then no process is left running.
    pub async fn start_as(
        options: &RedisServerBuilder,
        password: Option<&str>,
    ) -> Result<Self, ServerError> {
        let options = options
            .clone()
            .args(&["--repl-diskless-sync-delay", "0"])
            .args(&options.replica_args());
        let master = options.clone().start().await?;
        let port = master.port().to_string();
        let replica = options.args(&["--replicaof", "127.0.0.1", &port]);
        let replica = replica.start().await?;
        // Sentinels that find no replica would look again only after 10 s.
        until("the replica is not connected", async || {
            let said = master.command(&["INFO", "replication"]).await?.text();
            Ok(said.is_some_and(|said| said.contains("state=online")))
        })
        .await?;
        let mut started = Self {
            servers: vec![master, replica],
            sentinels: Vec::new(),
            password: password.map(str::to_owned),
        };
        for _ in 0..SENTINELS {
            let sentinel = Sentinel::start(&started.servers[0], password).await?;
            started.sentinels.push(sentinel);
        }
        started.settle().await?;
        Ok(started)
    }

    /// Waits until each sentinel knows the others and the replica, at most 60 s.
    async fn settle(&self) -> io::Result<()> {
        let others = (SENTINELS - 1).to_string();
        for number in 0..SENTINELS {
            until("the sentinels do not know each other", async || {
                let said = self.command(number, &["SENTINEL", "master", SERVICE]).await;
                let Reply::Array(words) = said? else {
                    return Ok(false);
                };
                let words: Vec<_> = words.iter().filter_map(Reply::text).collect();
                let says = |name: &str, value: &str| {
                    let mut pairs = words.chunks(2);
                    pairs.any(|pair| pair == [name, value])
                };
                Ok(says("num-other-sentinels", &others)
                    && says("num-slaves", "1")
                    && says("flags", "master"))
            })
            .await?;
        }
        Ok(())
    }

    /// Returns the address of the service as a URL, with the servers' password if there is one.
    pub fn url(&self) -> String {
        let ports = self.sentinels.iter().map(|sentinel| sentinel.port);
        self.url_of("redis+sentinel", "127.0.0.1", ports)
    }

    /// Returns the address of the service over TLS; `None` without TLS. The sentinels name the
    /// servers by their ports without TLS: see [`RedisServer::tls_port`].
    pub fn tls_url(&self) -> Option<String> {
        let ports: Option<Vec<_>> = self
            .sentinels
            .iter()
            .map(|sentinel| sentinel.certificate.as_ref().map(|shown| shown.port))
            .collect();
        ports.map(|ports| self.url_of("rediss+sentinel", "localhost", ports.into_iter()))
    }

    fn url_of(&self, scheme: &str, host: &str, ports: impl Iterator<Item = u16>) -> String {
        let hosts: Vec<_> = ports.map(|port| format!("{host}:{port}")).collect();
        let login = match self.servers[0].password() {
            Some(password) => format!(":{password}@"),
            None => String::new(),
        };
        format!("{scheme}://{login}{}/{SERVICE}", hosts.join(","))
    }

    /// Returns the certificates of all sentinels and servers, in PEM; empty without TLS.
    pub fn certificates(&self) -> String {
        let sentinels = self.sentinels.iter();
        let sentinels = sentinels.filter_map(|sentinel| sentinel.certificate.as_ref());
        let servers = self.servers.iter().filter_map(RedisServer::certificate);
        let all = sentinels.map(|shown| shown.text.as_str()).chain(servers);
        all.collect::<Vec<_>>().join("\n")
    }

    /// Runs one command at a sentinel.
    ///
    /// # Errors
    /// The connection's error. A refusal is no error: it is [`Reply::Error`].
    pub async fn command(&self, sentinel: usize, words: &[&str]) -> io::Result<Reply> {
        let address = format!("127.0.0.1:{}", self.sentinels[sentinel].port);
        let mut client = Client::connect(&address, self.password.as_deref()).await?;
        client.command(words).await
    }

    /// Kills a sentinel (`SIGKILL`).
    pub fn kill_sentinel(&mut self, sentinel: usize) {
        if let Some(running) = self.sentinels[sentinel].running.take() {
            running.kill();
        }
    }

    /// Returns the index of the server that most running sentinels name as the master.
    ///
    /// # Errors
    /// A connection's error, or that they do not agree.
    pub async fn master(&self) -> io::Result<usize> {
        let mut votes = vec![0; self.servers.len()];
        let running = (0..SENTINELS).filter(|at| self.sentinels[*at].running.is_some());
        for sentinel in running {
            let words = ["SENTINEL", "get-master-addr-by-name", SERVICE];
            let Reply::Array(place) = self.command(sentinel, &words).await? else {
                continue;
            };
            let port = place.get(1).and_then(Reply::text).unwrap_or_default();
            let named = self
                .servers
                .iter()
                .position(|at| at.port().to_string() == port);
            named.into_iter().for_each(|named| votes[named] += 1);
        }
        let master = votes.iter().position(|votes| *votes >= QUORUM);
        master.ok_or_else(|| io::Error::other("the sentinels do not agree"))
    }

    /// Waits until most sentinels name another server than this one, and returns its index; at most
    /// 60 s.
    ///
    /// # Errors
    /// A connection's error, or that there is no failover in time.
    pub async fn switched_from(&self, old: usize) -> io::Result<usize> {
        until("there is no failover", async || {
            Ok(self.master().await.is_ok_and(|master| master != old))
        })
        .await?;
        self.master().await
    }

    /// Has a sentinel make the replica the master, though the master is well.
    ///
    /// # Errors
    /// The connection's error, or the sentinel's refusal.
    pub async fn fail_over(&self) -> io::Result<()> {
        match self.command(0, &["SENTINEL", "failover", SERVICE]).await? {
            Reply::Error(refused) => Err(io::Error::other(refused)),
            _ => Ok(()),
        }
    }
}

impl Sentinel {
    async fn start(master: &RedisServer, password: Option<&str>) -> Result<Self, ServerError> {
        let folder = tempfile::Builder::new()
            .prefix("larder-sentinel-")
            .tempdir()?;
        let certificate = match master.certificate() {
            Some(_) => Some(Certificate::make(folder.path())?),
            None => None,
        };
        let port = free_port()?;
        let mut lines = vec![
            format!("port {port}"),
            "bind 127.0.0.1".to_owned(),
            format!("dir {}", folder.path().display()),
            format!("logfile {}", folder.path().join("log").display()),
            format!(
                "sentinel monitor {SERVICE} 127.0.0.1 {} {QUORUM}",
                master.port()
            ),
            format!("sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}"),
            format!("sentinel failover-timeout {SERVICE} 3000"),
        ];
        if let Some(password) = master.password() {
            lines.push(format!("sentinel auth-pass {SERVICE} {password}"));
        }
        if let Some(password) = password {
            // The sentinels log in to each other with it too.
            lines.push(format!("requirepass {password}"));
        }
        if let Some(certificate) = &certificate {
            let file = |name: &str| folder.path().join(name).display().to_string();
            lines.push(format!("tls-port {}", certificate.port));
            lines.push("tls-auth-clients no".to_owned());
            lines.push(format!("tls-cert-file {}", file(CERTIFICATE_FILE)));
            lines.push(format!("tls-key-file {}", file(KEY_FILE)));
            lines.push(format!("tls-ca-cert-file {}", file(CERTIFICATE_FILE)));
        }
        let config = folder.path().join("sentinel.conf");
        fs::write(&config, lines.join("\n") + "\n")?;
        let running = Running::start(vec![config.into(), "--sentinel".into()])?;
        let sentinel = Self {
            folder,
            port,
            certificate,
            running: Some(running),
        };
        let address = format!("127.0.0.1:{port}");
        let answers = until("the sentinel does not answer", async || {
            Ok(Client::connect(&address, None).await.is_ok())
        });
        match answers.await {
            Ok(()) => Ok(sentinel),
            Err(_) => Err(ServerError::DoesNotStart {
                log: sentinel.log(),
            }),
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "log of the private sentinel on port {}:\n{}",
                self.port,
                self.log()
            );
        }
        if let Some(running) = self.running.take() {
            running.kill();
        }
    }
}

/// Waits for a condition, at most 60 s.
async fn until(what: &str, holds: impl AsyncFn() -> io::Result<bool>) -> io::Result<()> {
    let give_up = Instant::now() + BOUND;
    while !holds().await? {
        if Instant::now() > give_up {
            return Err(io::Error::other(what.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replica_takes_the_place_of_a_killed_master() {
        let mut sentinels = RedisSentinels::start().await.unwrap();
        assert_eq!(sentinels.master().await.unwrap(), 0);
        sentinels.servers[0].kill();
        assert_eq!(sentinels.switched_from(0).await.unwrap(), 1);
    }
}
