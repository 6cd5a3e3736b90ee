use std::time::Duration;

use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError,
    RedisResult, Value, parse_redis_value,
};
use larder_core::StoreError;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::{RedisConfig, redacted};

/// A parsed address, and the text that stands for it in errors and logs: never with a user name or
/// password.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) info: ConnectionInfo,
    pub(crate) shown: String,
}

/// Schemes of an address, and what each of them is for.
const NETWORK: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
const SOCKET: [&str; 3] = ["unix", "redis+unix", "valkey+unix"];

/// The problem of an address with a character that ends the user name and password too early.
const ENCODE: &str =
    "percent-encode the user name and password: write ? as %3F, # as %23, / as %2F and @ as %40";

/// How long to wait for the words of a server that turns a connection away: it says them at once.
const FAREWELL: Duration = Duration::from_millis(200);

impl Endpoint {
    pub(crate) fn parse(config: &RedisConfig) -> Result<Self, StoreError> {
        let shown = redacted(&config.url);
        let wrong = |problem: &str| StoreError::Address {
            address: shown.clone(),
            problem: problem.to_owned(),
        };
        let (scheme, rest) = config.url.split_once("://").unwrap_or_default();
        if !NETWORK.contains(&scheme) && !SOCKET.contains(&scheme) {
            return Err(wrong("it must begin with redis://, rediss:// or unix://"));
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
        let info = config
            .url
            .as_str()
            .into_connection_info()
            .map_err(|error| {
                // The category and not the detail, which may quote the address.
                match at {
                    Some(_) => wrong(&format!("{}; {ENCODE}", error.category())),
                    None => wrong(error.category()),
                }
            })?;
        let info = with_tls(info, config).map_err(|problem| wrong(&problem))?;
        Ok(Self { info, shown })
    }

    /// Opens connections of the older protocol, without pushes.
    pub(crate) fn client(&self) -> RedisResult<Client> {
        Client::open(self.info_for(ProtocolVersion::RESP2))
    }

    pub(crate) fn info_for(&self, protocol: ProtocolVersion) -> ConnectionInfo {
        let settings = self.info.redis_settings().clone().set_protocol(protocol);
        self.info.clone().set_redis_settings(settings)
    }

    /// The endpoint of another server of the same cluster, reached with the same user and the same
    /// kind of connection.
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

/// Reads an error reply, of at most 1 KiB.
async fn read_error(stream: impl AsyncRead + Unpin) -> Option<RedisError> {
    let mut said = Vec::new();
    let _broken = stream.take(1024).read_to_end(&mut said).await; // what was read before that counts
    parse_redis_value(&said)
        .and_then(Value::extract_error)
        .err()
        .filter(|error| error.code().is_some())
}

#[cfg(feature = "tls-rustls")]
fn with_tls(info: ConnectionInfo, config: &RedisConfig) -> Result<ConnectionInfo, String> {
    use crate::connection::tls;

    let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    match (is_tls, &config.root_certificate) {
        (true, root) => tls::configure(info, root.as_deref()),
        (false, None) => Ok(info),
        (false, Some(_)) => Err("a root certificate is for rediss:// only".to_owned()),
    }
}

#[cfg(not(feature = "tls-rustls"))]
fn with_tls(info: ConnectionInfo, _: &RedisConfig) -> Result<ConnectionInfo, String> {
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &RedisConfig) -> StoreError {
        match Endpoint::parse(config) {
            Err(error) => error,
            Ok(endpoint) => panic!("{} is accepted", endpoint.shown),
        }
    }

    #[test]
    fn other_server_is_reached_as_this_one_is() {
        for (url, shown) in [
            ("rediss://u:secret@a:1", "rediss://b:2"),
            ("valkeys://u:secret@a:1", "rediss://b:2"),
            ("redis://u:secret@a:1", "redis://b:2"),
            ("valkey://u:secret@a:1", "redis://b:2"),
            ("unix:///run/redis.sock?pass=secret", "redis://b:2"),
        ] {
            if url.contains("s://") && !cfg!(feature = "tls-rustls") {
                continue;
            }
            let other = Endpoint::parse(&RedisConfig::new(url)).unwrap().at("b", 2);
            assert_eq!(
                (&*other.shown, &*other.place(), other.host()),
                (shown, "b:2", "b")
            );
            assert_eq!(other.info.redis_settings().password(), Some("secret"));
        }
    }

    #[test]
    fn unusable_address_says_what_would_be_right() {
        for url in [
            "",
            "localhost:6379",
            "http://u:secret@host",
            "redis://u:secret@host:port",
            "redis://",
        ] {
            let error = refused(&RedisConfig::new(url));
            let text = format!("{error} {error:?}");
            assert!(
                matches!(error, StoreError::Address { .. }) && !text.contains("secret"),
                "{text}"
            );
        }
        assert_eq!(
            refused(&RedisConfig::new("localhost:6379")).to_string(),
            "localhost:6379 is not an address of a remote store: \
             it must begin with redis://, rediss:// or unix://"
        );
    }

    #[test]
    fn password_that_is_not_percent_encoded_is_refused_and_never_shown() {
        for url in [
            "redis://user:s3cr?t@host",
            "redis://user:s3cr#t@host:6379/1",
            "redis://user:s3cr/t@host",
            "redis://s3cr?t@host",
            "redis://user:6379?s3cr@host",
            "redis://user:s3cr?t=x@host",
            "redis://:s3cr[t@host:port",
            "valkeys://user:s3cr?t@@host",
        ] {
            let config = RedisConfig::new(url);
            let error = refused(&config);
            let text = format!("{error} {error:?} {config:?}");
            assert!(error.to_string().contains("percent-encode"), "{text}");
            for secret in ["s3cr", "user", "t@", "t=x"] {
                assert!(
                    !text.replace("the user name", "").contains(secret),
                    "{url}: {text}"
                );
            }
        }
        let encoded = RedisConfig::new("redis://user:s3cr%3Ft@host");
        assert_eq!(
            Endpoint::parse(&encoded)
                .unwrap()
                .info
                .redis_settings()
                .password(),
            Some("s3cr?t")
        );
    }

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
        let endpoint =
            Endpoint::parse(&RedisConfig::new(format!("redis://127.0.0.1:{port}"))).unwrap();
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
