use std::{fmt, future::Future, time::Duration};

use async_trait::async_trait;

/// The error of an application's closure, of any type.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A user name and password, and the time after which they are to be renewed.
///
/// `Debug` shows neither the user name nor the password.
///
/// ```
/// use std::time::Duration;
/// use larder_redis::Credentials;
///
/// let token = Credentials::new("app", "s3cret").renew_in(Duration::from_secs(600));
/// assert!(!format!("{token:?}").contains("s3cret"));
/// ```
#[derive(Clone)]
pub struct Credentials {
    pub(crate) user: Option<String>,
    pub(crate) password: String,
    pub(crate) renew_in: Option<Duration>,
}

impl Credentials {
    /// Logs in as this user.
    ///
    /// ```
    /// use larder_redis::Credentials;
    ///
    /// let credentials = Credentials::new("app", "s3cret");
    /// ```
    pub fn new(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            user: Some(user.into()),
            password: password.into(),
            renew_in: None,
        }
    }

    /// Logs in as the server's default user, as with `requirepass`.
    ///
    /// ```
    /// use larder_redis::Credentials;
    ///
    /// let credentials = Credentials::password_only("s3cret");
    /// ```
    pub fn password_only(password: impl Into<String>) -> Self {
        Self {
            user: None,
            password: password.into(),
            renew_in: None,
        }
    }

    /// Has the provider asked again after this time, and live connections logged in anew with what
    /// it returns then. Choose a time that ends some minutes before a token does. By default, and
    /// with [`Duration::MAX`], credentials hold for as long as the connection. At least 100 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder_redis::Credentials;
    ///
    /// // The token holds for 15 minutes.
    /// let token = Credentials::new("app", "token").renew_in(Duration::from_secs(12 * 60));
    /// ```
    #[must_use]
    pub fn renew_in(mut self, time: Duration) -> Self {
        self.renew_in = Some(time);
        self
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("renew_in", &self.renew_in)
            .finish_non_exhaustive()
    }
}

/// Knows the user name and password of now: from a file that changes, a secret store, or a token
/// that ends. [`RedisConfig::credentials`](crate::RedisConfig::credentials) takes one.
///
/// The store asks it for each connection that it opens, within the time to connect, and for each
/// live connection when [`Credentials::renew_in`] is over. Many connections may ask at the same
/// time, so a provider that asks a server should keep the answer. What fails is asked for again: a
/// live connection stays in use meanwhile, and a new one is tried like one to a server that is out
/// of reach.
///
/// A closure that returns a future is a provider. A type is one too:
///
/// ```
/// use std::time::Duration;
/// use larder_redis::{Credentials, CredentialsProvider, RedisConfig};
///
/// /// Signs tokens that hold for 15 minutes, as those of IAM do.
/// struct Tokens { user: String }
///
/// impl Tokens {
///     fn sign(&self) -> String {
///         // … a signed request, as the cloud's documentation says.
/// #       "token".to_owned()
///     }
/// }
///
/// #[async_trait::async_trait]
/// impl CredentialsProvider for Tokens {
///     async fn credentials(
///         &self,
///     ) -> Result<Credentials, Box<dyn std::error::Error + Send + Sync>> {
///         let in_time = Duration::from_secs(12 * 60);
///         Ok(Credentials::new(&*self.user, self.sign()).renew_in(in_time))
///     }
/// }
///
/// let config = RedisConfig::new("rediss://cache.example")
///     .credentials(Tokens { user: "app".to_owned() });
/// ```
#[async_trait]
pub trait CredentialsProvider: Send + Sync {
    /// Returns the user name and password of now.
    ///
    /// # Errors
    /// The reason why the provider does not know them. Its text is logged, so it must not carry a
    /// secret.
    async fn credentials(&self) -> Result<Credentials, BoxError>;
}

#[async_trait]
impl<F, Fut, E> CredentialsProvider for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = Result<Credentials, E>> + Send,
    E: Into<BoxError>,
{
    async fn credentials(&self) -> Result<Credentials, BoxError> {
        self().await.map_err(Into::into)
    }
}
