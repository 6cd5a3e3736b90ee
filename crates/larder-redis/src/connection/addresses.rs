use std::sync::Arc;

use larder_core::StoreError;

use crate::{
    config::{AddressMap, RedisConfig, redacted},
    connection::{endpoint::Endpoint, sentinel::Sentinels, sentinel_url::SentinelUrl},
};

/// Where the store's servers are now. Each new connection asks here: a host name is looked up anew
/// for each of them, and sentinels are asked anew which server is the master.
pub(crate) struct Addresses {
    /// The address, as errors and logs show it.
    pub(crate) shown: String,
    source: Source,
    map: AddressMap,
}

enum Source {
    /// The server at the address, or any one of its cluster.
    Server(Arc<Endpoint>),
    /// The master that sentinels name, with an endpoint that is like the master's but for the host
    /// and port.
    Sentinels(Box<Sentinels>, Box<Endpoint>),
}

impl Addresses {
    /// Parses the address of a store.
    ///
    /// # Errors
    /// [`StoreError::Address`] for an address, or a certificate, that cannot be used.
    pub(crate) fn parse(config: &RedisConfig) -> Result<Self, StoreError> {
        let (shown, access) = (redacted(&config.url), &config.access);
        let source = match SentinelUrl::parse(&config.url) {
            None => {
                let server = Endpoint::parse(&config.url, shown.clone(), access)?;
                Source::Server(Arc::new(server))
            }
            Some(Err(problem)) => {
                let address = shown;
                return Err(StoreError::Address { address, problem });
            }
            Some(Ok(url)) => {
                let master = Endpoint::parse(&url.master_url(), shown.clone(), access)?;
                let sentinels = url.sentinels.iter();
                let sentinels = sentinels
                    .map(|(host, port)| Arc::new(master.sentinel_at(host, *port, access)))
                    .collect();
                let sentinels = Sentinels::new(sentinels, url.service, shown.clone(), config);
                Source::Sentinels(Box::new(sentinels), Box::new(master))
            }
        };
        Ok(Self {
            shown,
            source,
            map: access.address_map.clone(),
        })
    }

    /// The number of the database.
    pub(crate) fn db(&self) -> i64 {
        self.pattern().db()
    }

    /// The servers that are to be asked first, in this order.
    ///
    /// # Errors
    /// That of the sentinels: none of them answers, or knows the service.
    pub(crate) async fn seeds(&self) -> Result<Vec<Arc<Endpoint>>, StoreError> {
        match &self.source {
            Source::Server(server) => Ok(vec![server.clone()]),
            Source::Sentinels(sentinels, _) => {
                let masters = sentinels.masters().await?.into_iter();
                Ok(masters
                    .map(|(host, port)| Arc::new(self.told(&host, port)))
                    .collect())
            }
        }
    }

    /// The server that a cluster or a sentinel calls `host:port`.
    pub(crate) fn told(&self, host: &str, port: u16) -> Endpoint {
        let (host, port) = self.map.reachable(host, port);
        self.pattern().at(&host, port)
    }

    /// The sentinels, if the address names some.
    pub(crate) fn sentinels(&self) -> Option<&Sentinels> {
        match &self.source {
            Source::Server(_) => None,
            Source::Sentinels(sentinels, _) => Some(sentinels),
        }
    }

    /// An endpoint that is like that of every server, but for the host and port.
    fn pattern(&self) -> &Endpoint {
        match &self.source {
            Source::Server(server) => server,
            Source::Sentinels(_, pattern) => pattern,
        }
    }
}

#[cfg(test)]
mod tests {
    use deadpool_redis::redis::ProtocolVersion;

    use super::*;

    fn addresses(url: &str) -> Addresses {
        Addresses::parse(&RedisConfig::new(url)).unwrap()
    }

    fn refused(config: &RedisConfig) -> StoreError {
        match Addresses::parse(config) {
            Err(error) => error,
            Ok(addresses) => panic!("{} is accepted", addresses.shown),
        }
    }

    /// The user name and password of an endpoint.
    async fn login(endpoint: &Endpoint) -> (Option<String>, Option<String>) {
        let login = endpoint.login(ProtocolVersion::RESP2).await.unwrap();
        let settings = login.info.redis_settings();
        (
            settings.username().map(str::to_owned),
            settings.password().map(str::to_owned),
        )
    }

    #[tokio::test]
    async fn other_server_is_reached_as_this_one_is() {
        for (url, shown) in [
            ("rediss://u:secret@a:1", "rediss://b:2"),
            ("valkeys://u:secret@a:1", "rediss://b:2"),
            ("redis://u:secret@a:1", "redis://b:2"),
            ("valkey://u:secret@a:1", "redis://b:2"),
            ("redis+sentinel://u:secret@a:1,c/service", "redis://b:2"),
            ("valkeys+sentinel://u:secret@a:1/service", "rediss://b:2"),
            ("unix:///run/redis.sock?pass=secret", "redis://b:2"),
        ] {
            if (url.contains("s://") || url.contains("s+")) && !cfg!(feature = "tls-rustls") {
                continue;
            }
            let other = addresses(url).told("b", 2);
            assert_eq!(
                (&*other.shown, &*other.place(), other.host()),
                (shown, "b:2", "b")
            );
            assert_eq!(login(&other).await.1.as_deref(), Some("secret"), "{url}");
        }
    }

    #[tokio::test]
    async fn setters_replace_what_the_address_says() {
        let config = RedisConfig::new("redis+sentinel://u:secret@a,b:7/service/3")
            .user("app")
            .password("what?")
            .sentinel_password("hidden");
        let addresses = Addresses::parse(&config).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let master = addresses.told("m", 1);
        assert_eq!(master.db(), 3);
        assert_eq!(login(&master).await, (text("app"), text("what?")));
        let sentinels = addresses.sentinels().unwrap();
        let places: Vec<_> = sentinels.endpoints().iter().map(|at| at.place()).collect();
        assert_eq!(places, ["a:26379", "b:7"]);
        for sentinel in sentinels.endpoints() {
            assert_eq!(sentinel.db(), 0);
            assert_eq!(login(sentinel).await, (None, text("hidden")));
        }
    }

    #[test]
    fn told_addresses_are_translated_and_the_stores_own_is_not() {
        let config = RedisConfig::new("redis://a:1")
            .address_map(|host, port| (format!("nat-{host}"), port + 1));
        let addresses = Addresses::parse(&config).unwrap();
        assert_eq!(addresses.told("a", 1).place(), "nat-a:2");
        let Source::Server(own) = &addresses.source else {
            panic!("it is no sentinel")
        };
        assert_eq!(own.place(), "a:1");
    }

    #[test]
    fn unusable_address_says_what_would_be_right() {
        for url in [
            "",
            "localhost:6379",
            "http://u:secret@host",
            "redis://u:secret@host:port",
            "redis://",
            "redis+sentinel://",
            "redis+sentinel:///service",
            "redis+sentinel://u:secret@host",
            "redis+sentinel://u:secret@host/",
            "redis+sentinel://u:secret@host:port/service",
            "redis+sentinel://u:secret@host,/service",
            "redis+sentinel://u:secret@host/service/db",
            "redis+sentinel://u:secret@host/service/1/2",
            "redis+sentinel://u:secret@host/service?db=1",
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
            "localhost:6379 is not an address of a remote store: it must begin with redis://, \
             rediss://, valkey://, valkeys://, redis+sentinel://, rediss+sentinel:// or unix://"
        );
    }

    #[tokio::test]
    async fn password_that_is_not_percent_encoded_is_refused_and_never_shown() {
        for url in [
            "redis://user:s3cr?t@host",
            "redis://user:s3cr#t@host:6379/1",
            "redis://user:s3cr/t@host",
            "redis://s3cr?t@host",
            "redis://user:6379?s3cr@host",
            "redis://user:s3cr?t=x@host",
            "redis://:s3cr[t@host:port",
            "valkeys://user:s3cr?t@@host",
            "redis+sentinel://user:s3cr/t@host/service",
            "redis+sentinel://user:s3cr?t@host/service",
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
        let encoded = addresses("redis://user:s3cr%3Ft@host");
        assert_eq!(login(encoded.pattern()).await.1.as_deref(), Some("s3cr?t"));
    }
}
