//! The setters for how servers are reached.

use std::sync::Arc;

use super::{RedisConfig, access::AddressMap};
use crate::credentials::CredentialsProvider;

impl RedisConfig {
    /// Logs in as this user, instead of the one in the address.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("rediss://cache.example").user("app").password("what?");
    /// assert!(!format!("{config:?}").contains("what?"));
    /// ```
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.access.user = Some(user.into());
        self
    }

    /// Logs in with this password, instead of the one in the address. It is taken as it is: nothing
    /// in it is percent-encoded. Neither errors nor logs nor `Debug` show it.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://127.0.0.1").password("s3cr?t");
    /// assert!(!format!("{config:?}").contains("s3cr"));
    /// ```
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.access.password = Some(password.into());
        self
    }

    /// Asks this provider for the user name and password of each connection, and again before they
    /// end. It takes the place of those in the address and of [`user`](Self::user) and
    /// [`password`](Self::password).
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_redis::{Credentials, RedisConfig};
    ///
    /// // The file is replaced from time to time, and then holds the new password.
    /// let from_file = || async {
    ///     let password = std::fs::read_to_string("/run/secrets/redis-password")?;
    ///     let minute = Duration::from_secs(60);
    ///     std::io::Result::Ok(Credentials::new("app", password.trim_end()).renew_in(minute))
    /// };
    /// let config = RedisConfig::new("rediss://cache.example").credentials(from_file);
    /// ```
    #[must_use]
    pub fn credentials(mut self, provider: impl CredentialsProvider + 'static) -> Self {
        self.access.provider = Some(Arc::new(provider));
        self
    }

    /// Trusts this root certificate (PEM) for `rediss://`, instead of the system's. The store does
    /// not connect with a text that is no certificate, or with an address without TLS.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let path = std::env::temp_dir().join("larder-redis-doc-ca.pem");
    /// # std::fs::write(&path, "")?;
    /// use larder_redis::RedisConfig;
    ///
    /// let pem = std::fs::read(path)?;
    /// let config = RedisConfig::new("rediss://cache.example").root_certificate(pem);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.access.root_certificate = Some(pem.into());
        self
    }

    /// Shows this client certificate (its chain and its private key, both PEM) to servers at
    /// `rediss://`. The store does not connect with a key that is not the certificate's, or with an
    /// address without TLS.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// # let folder = std::env::temp_dir();
    /// # let chain = folder.join("larder-doc-chain.pem");
    /// # let key = folder.join("larder-doc-key.pem");
    /// # std::fs::write(&chain, "")?;
    /// # std::fs::write(&key, "")?;
    /// use larder_redis::RedisConfig;
    ///
    /// let (chain, key) = (std::fs::read(chain)?, std::fs::read(key)?);
    /// let config = RedisConfig::new("rediss://cache.example").client_certificate(chain, key);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        self.access.client_certificate = Some((chain.into(), key.into()));
        self
    }

    /// Logs in to the sentinels as this user. By default the store logs in to them only if
    /// [`sentinel_password`](Self::sentinel_password) is set: the user in the address is the
    /// master's.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis+sentinel://app:s3cret@one.example/mymaster")
    ///     .sentinel_user("watcher")
    ///     .sentinel_password("hidden");
    /// assert!(!format!("{config:?}").contains("hidden"));
    /// ```
    #[must_use]
    pub fn sentinel_user(mut self, user: impl Into<String>) -> Self {
        self.access.sentinel_user = Some(user.into());
        self
    }

    /// Logs in to the sentinels with this password. Neither errors nor logs nor `Debug` show it.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis+sentinel://one.example,two.example/mymaster")
    ///     .sentinel_password("hidden");
    /// ```
    #[must_use]
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.access.sentinel_password = Some(password.into());
        self
    }

    /// Translates each address that a cluster or a sentinel tells into the one at which this
    /// process reaches that server, as behind NAT or with Docker's published ports. The address of
    /// the store itself is taken as it is. Must not block.
    ///
    /// ```
    /// use larder_redis::RedisConfig;
    ///
    /// // Each server is published on the port of the same number of this host.
    /// let config = RedisConfig::new("redis://localhost:7000")
    ///     .address_map(|_host, port| ("localhost".to_owned(), port));
    ///
    /// // A table: the servers that it does not name are reached where they say.
    /// let by_table = RedisConfig::new("redis://localhost:7000").address_map(|host, port| {
    ///     match (host, port) {
    ///         ("10.0.0.5", 6379) => ("cache.example".to_owned(), 7001),
    ///         ("10.0.0.6", 6379) => ("cache.example".to_owned(), 7002),
    ///         other => (other.0.to_owned(), other.1),
    ///     }
    /// });
    /// ```
    #[must_use]
    pub fn address_map(
        mut self,
        translate: impl Fn(&str, u16) -> (String, u16) + Send + Sync + 'static,
    ) -> Self {
        self.access.address_map = AddressMap::new(translate);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_setters_are_never_shown() {
        let config = RedisConfig::new("rediss://host")
            .user("hidden")
            .password("hidden")
            .sentinel_user("hidden")
            .sentinel_password("hidden")
            .client_certificate("hidden", "hidden");
        let shown = format!("{config:?}");
        assert!(
            shown.contains("sentinel_password") && !shown.contains("hidden"),
            "{shown}"
        );
    }
}
