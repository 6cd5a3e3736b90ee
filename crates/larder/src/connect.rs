//! The connection to L2.

use std::sync::Arc;

use larder_core::RemoteStore;
#[cfg(feature = "redis")]
use larder_redis::{RedisConfig, RedisStore};

use crate::Error;

/// The L2 that a builder was given.
pub(crate) enum Remote {
    #[cfg(feature = "redis")]
    Redis(Box<RedisConfig>),
    Store(Arc<dyn RemoteStore>),
}

/// An L2 that is to be connected.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only Redis has these options")
)]
pub(crate) struct Connect {
    pub(crate) remote: Remote,
    pub(crate) namespace: Option<String>,
    /// The texts before the colon with which the keys of its values begin.
    pub(crate) prefixes: Vec<String>,
    /// The largest value that is read or written, in bytes.
    pub(crate) max_value_size: usize,
    /// The names of all that L2 may hold.
    pub(crate) everything: Everything,
    /// Whether to connect in the background.
    pub(crate) lazily: bool,
}

/// Names for all values in L2.
#[cfg_attr(
    not(feature = "redis"),
    expect(dead_code, reason = "only Redis forgets")
)]
pub(crate) struct Everything {
    /// Beginnings of keys, with their colons.
    pub(crate) prefixes: Vec<String>,
    /// The tags of policies with `instant_clear`.
    pub(crate) tags: Vec<String>,
}

impl Connect {
    #[cfg_attr(
        not(feature = "redis"),
        expect(clippy::unused_async, reason = "only Redis is waited for")
    )]
    pub(crate) async fn connect(self) -> Result<Arc<dyn RemoteStore>, Error> {
        match self.remote {
            Remote::Store(store) => Ok(store),
            #[cfg(feature = "redis")]
            Remote::Redis(config) => {
                let config = match self.namespace {
                    Some(namespace) => config.namespace(namespace),
                    None => *config,
                };
                let config = config
                    .prefixes(self.prefixes)
                    .max_value_size(self.max_value_size)
                    .clear_on_data_loss(self.everything.prefixes)
                    .invalidate_on_data_loss(self.everything.tags);
                let store = match self.lazily {
                    true => RedisStore::connect_lazy(config),
                    false => RedisStore::connect(config).await,
                };
                Ok(Arc::new(store.map_err(Error::remote)?))
            }
        }
    }
}

impl Remote {
    pub(crate) fn is_redis(&self) -> bool {
        !matches!(self, Self::Store(_))
    }

    /// The namespace that its own options set.
    pub(crate) fn namespace(&self) -> Option<&str> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(config) => config.configured_namespace(),
            Self::Store(_) => None,
        }
    }
}
