use deadpool_redis::redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates,
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
    pub(crate) fn client(&self) -> Result<Client, StoreError> {
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        Client::open(self.info.clone().set_redis_settings(settings)).map_err(|error| StoreError::Address {
            address: self.shown.clone(),
            problem: error.category().to_owned(),
        })
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
