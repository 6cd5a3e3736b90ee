use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, TryFutureExt, TryStreamExt, future::BoxFuture, stream};

use super::many::AT_ONCE;
use crate::{BoxError, Loaded, value::Value};

/// Where the values come from. Both are cheap to clone.
pub(super) enum Source<K, V> {
    One(Loader<K, Loaded<V>>),
    Many(Loader<Vec<K>, Entries<K, V>>),
}

/// A loader that is called with an `A`.
type Loader<A, T> = Arc<dyn Fn(A) -> Load<T> + Send + Sync>;

type Entries<K, V> = Vec<(K, Loaded<V>)>;

pub(super) type Load<T> = BoxFuture<'static, Result<T, BoxError>>;

impl<K: Clone + Eq + Send + 'static, V: Value> Source<K, V> {
    pub(super) fn load_one(self, key: K) -> Load<Loaded<V>> {
        match self {
            Self::One(load) => load(key),
            Self::Many(load) => load(vec![key.clone()])
                .map_ok(move |loaded| {
                    let own = loaded.into_iter().find(|(loaded, _)| *loaded == key);
                    own.map_or_else(Loaded::absent, |(_, value)| value)
                })
                .boxed(),
        }
    }

    pub(super) fn load_many(self, keys: Vec<K>) -> Load<Entries<K, V>> {
        match self {
            Self::Many(load) => load(keys),
            Self::One(load) => {
                let each = keys.into_iter().map(move |key| {
                    let loaded = load(key.clone());
                    async move { Ok((key, loaded.await?)) }
                });
                stream::iter(each)
                    .buffer_unordered(AT_ONCE)
                    .try_collect()
                    .boxed()
            }
        }
    }
}

impl<K, V> Clone for Source<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::One(load) => Self::One(load.clone()),
            Self::Many(load) => Self::Many(load.clone()),
        }
    }
}
