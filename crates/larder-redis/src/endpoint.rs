use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisResult, TlsCertificates,
};
use larder_core::StoreError;

use crate::RedisConfig;

/// A parsed address, and how it is shown: never with a user name or password.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) info: ConnectionInfo,
    pub(crate) shown: String,
}

impl Endpoint {
    pub(crate) fn parse(config: &RedisConfig) -> Result<Self, StoreError> {
        let shown = Self::redacted(&config.url);
        let wrong =
            |problem: &str| StoreError::Address { address: shown.clone(), problem: problem.to_owned() };
        let known = ["redis://", "rediss://", "unix://", "redis+unix://"];
        if !known.iter().any(|scheme| config.url.starts_with(scheme)) {
            return Err(wrong("it must begin with redis://, rediss:// or unix://"));
        }
        let info = config.url.as_str().into_connection_info().map_err(|error| {
            // The category and not the detail, which may quote the address.
            wrong(error.category())
        })?;
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Ok(Self { info, shown });
        }
        // Without a provider rustls would panic at the first connection. An error says that the application has
        // installed one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = TlsCertificates { client_tls: None, root_cert: config.root_certificate.clone() };
        let client = Client::build_with_tls(info, certificates)
            .map_err(|error| wrong(&format!("its root certificate cannot be used: {error}")))?;
        Ok(Self { info: client.get_connection_info().clone(), shown })
    }

    /// Opens connections of the older protocol, beside the lanes.
    pub(crate) fn client(&self) -> RedisResult<Client> {
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        Client::open(self.info.clone().set_redis_settings(settings))
    }

    /// Another server of the same cluster: reached as this one is, but there.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        let mut addr = self.info.addr().clone();
        let scheme = match &mut addr {
            ConnectionAddr::TcpTls { host: of, port: at, .. } => {
                (*of, *at) = (host.to_owned(), port);
                "rediss"
            }
            other => {
                *other = ConnectionAddr::Tcp(host.to_owned(), port);
                "redis"
            }
        };
        Self { info: self.info.clone().set_addr(addr), shown: format!("{scheme}://{host}:{port}") }
    }

    pub(crate) fn host(&self) -> &str {
        match self.info.addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host,
            _ => "localhost",
        }
    }

    /// Where it is: the host and port, or the path. The same for two endpoints that lead to one place.
    pub(crate) fn place(&self) -> String {
        self.info.addr().to_string()
    }

    /// The address without whatever stands before its `@`.
    pub(crate) fn redacted(url: &str) -> String {
        // A query can carry credentials too (`unix:///path?pass=…`).
        let url = url.split('?').next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_address_has_no_credentials() {
        for (url, shown) in [
            ("redis://host:1/2", "redis://host:1/2"),
            ("rediss://u:p@ss@host:1", "rediss://host:1"),
            ("unix:///run/redis.sock?pass=secret&db=1", "unix:///run/redis.sock"),
            ("u:p@host", "host"),
        ] {
            assert_eq!(Endpoint::redacted(url), shown);
        }
    }

    #[test]
    fn other_server_is_reached_as_this_one_is() {
        for (url, shown) in [
            ("rediss://u:secret@a:1", "rediss://b:2"),
            ("redis://u:secret@a:1", "redis://b:2"),
            ("unix:///run/redis.sock?pass=secret", "redis://b:2"),
        ] {
            let other = Endpoint::parse(&RedisConfig::new(url)).unwrap().at("b", 2);
            assert_eq!((&*other.shown, &*other.place(), other.host()), (shown, "b:2", "b"));
            assert_eq!(other.info.redis_settings().password(), Some("secret"));
        }
    }

    #[test]
    fn unusable_address_says_what_would_be_right() {
        for url in ["", "localhost:6379", "http://u:secret@host", "redis://u:secret@host:port", "redis://"] {
            let Err(error) = Endpoint::parse(&RedisConfig::new(url)) else { continue };
            let text = format!("{error} {error:?}");
            assert!(matches!(error, StoreError::Address { .. }) && !text.contains("secret"), "{text}");
        }
        let Err(error) = Endpoint::parse(&RedisConfig::new("localhost:6379")) else { panic!("accepted") };
        assert_eq!(
            error.to_string(),
            "localhost:6379 is not an address of a remote store: \
             it must begin with redis://, rediss:// or unix://"
        );
    }
}
