use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value,
    aio::{MultiplexedConnection, PubSub},
    cmd, parse_redis_value,
};
use larder_core::StoreError;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::Instant,
};

use crate::{
    config::Access,
    credentials::{Credentials, CredentialsProvider},
    error::no_credentials,
};

/// A server: its address, how to log in to it, and the text that stands for it in errors and logs,
/// never with a user name or password.
#[derive(Clone)]
pub(crate) struct Endpoint {
    info: ConnectionInfo,
    pub(crate) shown: String,
    /// Knows the user name and password, if they are not those of `info`.
    provider: Option<Arc<dyn CredentialsProvider>>,
}

/// How to log in to a server now.
pub(crate) struct Login {
    pub(crate) info: ConnectionInfo,
    /// When a live connection is to log in anew.
    pub(crate) renew_at: Option<Instant>,
}

/// Schemes of an address, and what each of them is for.
const NETWORK: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
const SOCKET: [&str; 3] = ["unix", "redis+unix", "valkey+unix"];

/// The problem of an address with a character that ends the user name and password too early.
pub(crate) const ENCODE: &str =
    "percent-encode the user name and password: write ? as %3F, # as %23, / as %2F and @ as %40";

/// How long to wait for the words of a server that turns a connection away: it says them at once.
const FAREWELL: Duration = Duration::from_millis(200);

/// Live connections log in anew at most this often: 100 ms.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(100);

/// Live connections log in anew at least this often: 30 days, because a clock cannot count
/// [`Duration::MAX`].
const LONGEST_RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);

impl Endpoint {
    /// Parses the address of a server.
    ///
    /// # Errors
    /// [`StoreError::Address`], which shows the address as `shown`.
    pub(crate) fn parse(url: &str, shown: String, access: &Access) -> Result<Self, StoreError> {
        let wrong = |problem: &str| StoreError::Address {
            address: shown.clone(),
            problem: problem.to_owned(),
        };
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        if !NETWORK.contains(&scheme) && !SOCKET.contains(&scheme) {
            return Err(wrong(
                "it must begin with redis://, rediss://, valkey://, valkeys://, redis+sentinel://, \
                 rediss+sentinel:// or unix://",
            ));
        }
        let at = rest.rfind('@');
        let ends_early = rest
            .find(['?', '#', '/'])
            .is_some_and(|end| at.is_some_and(|at| end < at));
        if ends_early && NETWORK.contains(&scheme) {
            return Err(wrong(ENCODE));
        }
        if cfg!(not(feature = "tls-rustls")) && matches!(scheme, "rediss" | "valkeys") {
            return Err(wrong(
                "this program is built without TLS: enable the feature `tls`",
            ));
        }
        let info = url.into_connection_info().map_err(|error| {
            // The category and not the detail, which may quote the address.
            match at {
                Some(_) => wrong(&format!("{}; {ENCODE}", error.category())),
                None => wrong(error.category()),
            }
        })?;
        let info = with_tls(info, access).map_err(|problem| wrong(&problem))?;
        let endpoint = Self {
            info,
            shown,
            provider: access.provider.clone(),
        };
        Ok(endpoint.with_login(access.user.as_deref(), access.password.as_deref()))
    }

    /// Logs in with these instead, where they are given.
    fn with_login(mut self, user: Option<&str>, password: Option<&str>) -> Self {
        let mut settings = self.info.redis_settings().clone();
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        self.info = self.info.set_redis_settings(settings);
        self
    }

    /// The number of the database.
    pub(crate) fn db(&self) -> i64 {
        self.info.redis_settings().db()
    }

    /// Finds out how to log in. A provider is asked for that.
    pub(crate) async fn login(&self, protocol: ProtocolVersion) -> RedisResult<Login> {
        let settings = self.info.redis_settings().clone();
        let (settings, renew_at) = match self.provided().await? {
            None => (settings, None),
            Some(credentials) => {
                let fresh = RedisConnectionInfo::default().set_db(settings.db());
                let fresh = match &credentials.user {
                    Some(user) => fresh.set_username(user),
                    None => fresh,
                };
                let renew_at = renew_at(&credentials);
                (fresh.set_password(credentials.password), renew_at)
            }
        };
        let settings = settings.set_protocol(protocol);
        let info = self.info.clone().set_redis_settings(settings);
        Ok(Login { info, renew_at })
    }

    /// Asks the provider, if there is one.
    async fn provided(&self) -> RedisResult<Option<Credentials>> {
        let Some(provider) = &self.provider else {
            return Ok(None);
        };
        let provided = provider.credentials().await;
        provided.map(Some).map_err(|error| no_credentials(&*error))
    }

    /// Logs in anew over a live connection, with what the provider says now. Returns when to do so
    /// again.
    pub(crate) async fn log_in_again(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Option<Instant>> {
        let Some(credentials) = self.provided().await? else {
            return Ok(None);
        };
        let mut auth = cmd("AUTH");
        if let Some(user) = &credentials.user {
            auth.arg(user);
        }
        auth.arg(&credentials.password);
        auth.exec_async(connection).await?;
        Ok(renew_at(&credentials))
    }

    /// Opens a connection. Returns when it is to log in anew, too.
    pub(crate) async fn connect(
        &self,
        protocol: ProtocolVersion,
        options: &AsyncConnectionConfig,
    ) -> RedisResult<(MultiplexedConnection, Option<Instant>)> {
        let Login { info, renew_at } = self.login(protocol).await?;
        let client = Client::open(info)?;
        let connection = client
            .get_multiplexed_async_connection_with_config(options)
            .await?;
        Ok((connection, renew_at))
    }

    /// Opens a connection for subscriptions. Returns when another one is to take its place, too.
    pub(crate) async fn subscriber(&self) -> RedisResult<(PubSub, Option<Instant>)> {
        let Login { info, renew_at } = self.login(ProtocolVersion::RESP2).await?;
        match Client::open(info)?.get_async_pubsub().await {
            Ok(connection) => Ok((connection, renew_at)),
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// The endpoint of a sentinel, reached over the same kind of connection.
    pub(crate) fn sentinel_at(&self, host: &str, port: u16, access: &Access) -> Self {
        let mut sentinel = self.at(host, port);
        let no_login = RedisConnectionInfo::default();
        sentinel.info = sentinel.info.set_redis_settings(no_login);
        sentinel.provider = None;
        sentinel.with_login(
            access.sentinel_user.as_deref(),
            access.sentinel_password.as_deref(),
        )
    }

    /// The endpoint of another server, reached with the same user and over the same kind of
    /// connection.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        let mut addr = self.info.addr().clone();
        let scheme = match &mut addr {
            ConnectionAddr::TcpTls {
                host: of, port: at, ..
            } => {
                (*of, *at) = (host.to_owned(), port);
                "rediss"
            }
            other => {
                *other = ConnectionAddr::Tcp(host.to_owned(), port);
                "redis"
            }
        };
        Self {
            info: self.info.clone().set_addr(addr),
            shown: format!("{scheme}://{host}:{port}"),
            provider: self.provider.clone(),
        }
    }

    pub(crate) fn host(&self) -> &str {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "localhost",
        }
    }

    /// The host and port, or the path: equal for two endpoints that lead to one place.
    pub(crate) fn place(&self) -> String {
        self.info.addr().to_string()
    }

    /// Finds out what a server said that dropped a new connection, such as that it has too many
    /// clients: the client library writes before it reads, and then knows no more than that the
    /// connection broke.
    pub(crate) async fn explain(&self, error: RedisError) -> RedisError {
        if !error.is_connection_dropped() {
            return error;
        }
        match tokio::time::timeout(FAREWELL, self.farewell()).await {
            Ok(Some(said)) => said,
            _ => error,
        }
    }

    /// Connects once more and reads what the server says before anything is asked: nothing, unless
    /// it turns clients away.
    async fn farewell(&self) -> Option<RedisError> {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                read_error(
                    tokio::net::TcpStream::connect((host.as_str(), *port))
                        .await
                        .ok()?,
                )
                .await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                read_error(tokio::net::UnixStream::connect(path).await.ok()?).await
            }
            // Over TLS a server cannot say anything before the client has.
            _ => None,
        }
    }
}

fn renew_at(credentials: &Credentials) -> Option<Instant> {
    let time = credentials.renew_in?;
    Some(Instant::now() + time.clamp(SHORTEST_RENEWAL, LONGEST_RENEWAL))
}

/// Reads an error reply, of at most 1 KiB.
pub(crate) async fn read_error(stream: impl AsyncRead + Unpin) -> Option<RedisError> {
    let mut said = Vec::new();
    let _broken = stream.take(1024).read_to_end(&mut said).await; // what was read before that counts
    parse_redis_value(&said)
        .and_then(Value::extract_error)
        .err()
        .filter(|error| error.code().is_some())
}

#[cfg(feature = "tls-rustls")]
fn with_tls(info: ConnectionInfo, access: &Access) -> Result<ConnectionInfo, String> {
    use crate::connection::tls;

    if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return tls::configure(info, access);
    }
    match (&access.root_certificate, &access.client_certificate) {
        (None, None) => Ok(info),
        (Some(_), _) => Err("a root certificate is for rediss:// only".to_owned()),
        (None, Some(_)) => Err("a client certificate is for rediss:// only".to_owned()),
    }
}

#[cfg(not(feature = "tls-rustls"))]
fn with_tls(info: ConnectionInfo, _: &Access) -> Result<ConnectionInfo, String> {
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn server_that_turns_clients_away_is_quoted() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let (mut client, _) = listener.accept().await.unwrap();
            client
                .write_all(b"-ERR max number of clients reached\r\n")
                .await
                .unwrap();
        });
        let url = format!("redis://127.0.0.1:{port}");
        let endpoint = Endpoint::parse(&url, url.clone(), &Access::default()).unwrap();
        let broken = || RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let error = endpoint.explain(broken()).await;
        assert!(
            error.to_string().contains("max number of clients reached"),
            "{error}"
        );
        server.await.unwrap();
        let error = endpoint.explain(broken()).await; // nobody listens any more
        assert!(error.is_connection_dropped(), "{error}");
    }
}
