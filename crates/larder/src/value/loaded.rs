use std::time::Duration;

/// A loaded value, with its own lifetime and tags.
///
/// A loader returns a `Loaded` if it knows more about the value than the policy does. Otherwise it
/// returns the value itself, or an `Option` of it.
///
/// ```
/// # use std::{io, time::Duration};
/// # use larder::{Larder, Loaded};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// # let larder = Larder::builder().build().await?;
/// # let users = larder.cache::<u64, String>("user_profile")?;
/// users
///     .get_or_load(42, || async {
///         let ada = Loaded::new("Ada".to_owned());
///         Ok::<_, io::Error>(ada.ttl(Duration::from_secs(30)).tag("org:7"))
///     })
///     .await?;
/// larder.invalidate_tag("org:7").await?;
/// assert_eq!(users.get(42).await?, None);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<V> {
    pub(crate) content: Content<V>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content<V> {
    Value(V),
    Absent,
    NotModified,
}

impl<V> Loaded<V> {
    /// A value with the policy's own lifetime and no tags.
    ///
    /// ```
    /// # use larder::Loaded;
    /// assert_eq!(Loaded::new(42), Loaded::from(42));
    /// ```
    pub fn new(value: V) -> Self {
        Self::of(Content::Value(value))
    }

    /// Says that the database has no such value. The cache remembers that for the policy's
    /// `negative_ttl`; by default not at all.
    ///
    /// ```
    /// # use larder::Loaded;
    /// assert_eq!(Loaded::<u8>::absent(), Loaded::from(None));
    /// ```
    pub fn absent() -> Self {
        Self::of(Content::Absent)
    }

    /// Says that the database still has the previous value: the entry stays as it is, with its
    /// tags, and its lifetime starts anew. See the example of
    /// [`get_or_revalidate`](crate::Cache::get_or_revalidate).
    ///
    /// ```
    /// # use std::{io, sync::Arc, time::Duration};
    /// # use larder::{Cache, Clock, Larder, Loaded, TtlTable};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (clock, hand) = Clock::manual();
    /// let page = "[page]\nttl = '1m'\nstale_for = '1h'\nsoft_timeout = '1s'";
    /// let table = TtlTable::from_toml(page)?;
    /// let larder = Larder::builder().ttl_table(table).clock(clock).build().await?;
    /// let pages: Cache<u64, String> = larder.cache("page")?;
    /// pages.insert(7, "Hello".to_owned()).await?;
    /// hand.advance(Duration::from_secs(90)); // it is stale
    ///
    /// let etag_is_the_same = |previous: Option<Arc<String>>| async move {
    ///     assert_eq!(previous.unwrap().as_str(), "Hello");
    ///     Ok::<_, io::Error>(Loaded::not_modified())
    /// };
    /// assert_eq!(pages.get_or_revalidate(7, etag_is_the_same).await?.as_str(), "Hello");
    /// # Ok(()) }
    /// ```
    pub fn not_modified() -> Self {
        Self::of(Content::NotModified)
    }

    fn of(content: Content<V>) -> Self {
        Self {
            content,
            ttl: None,
            tags: Vec::new(),
        }
    }

    /// Overrides the policy's `ttl` for this value. `Duration::ZERO`: return it, cache nothing. At
    /// most 100 years.
    ///
    /// The policy's `jitter` and `l1_ttl` still apply. See [the example above](Self).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use larder::Loaded;
    /// let code = Loaded::new(123_456).ttl(Duration::from_secs(30));
    /// ```
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Gives the entry a tag of 1 to 1,024 bytes: [`invalidate_tag`](crate::Larder::invalidate_tag)
    /// then removes it, together with all other entries that have the tag, of any policy and in any
    /// process. Call it again for more tags, up to 256. See [the example above](Self).
    ///
    /// A value with a tag outside these limits is returned, but not cached. All larders of one
    /// namespace share their tags. In L2 an entry with tags is not plain JSON: a short header with
    /// the tags stands in front.
    ///
    /// ```
    /// # use larder::Loaded;
    /// let user = Loaded::new("Ada".to_owned()).tag("org:7").tag("team:3");
    /// ```
    #[must_use]
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

/// `None` says that the database has no such value.
impl<V> From<Option<V>> for Loaded<V> {
    fn from(value: Option<V>) -> Self {
        value.map_or_else(Self::absent, Self::new)
    }
}

/// An error that the application's loaders and writers may return: any error, also an
/// `anyhow::Error` or a `String`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The result of a loader or writer of one value: `Result<U, E>`, where `U` is `V`, `Option<V>`
/// or [`Loaded<V>`] and `E` any error.
///
/// ```
/// # use std::io;
/// # use larder::Larder;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// # let users = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
/// let value = users.get_or_load(1, || async { Ok::<String, io::Error>("Ada".into()) }).await?;
/// let option = users.find_or_load(2, || async { Ok::<Option<String>, io::Error>(None) }).await?;
/// assert_eq!((value.as_str(), option), ("Ada", None));
/// # Ok(()) }
/// ```
pub trait LoadResult<V>: sealed::Sealed {
    #[doc(hidden)]
    fn into_loaded(self) -> Result<Loaded<V>, BoxError>;
}

impl<V, U: Into<Loaded<V>>, E: Into<BoxError>> LoadResult<V> for Result<U, E> {
    fn into_loaded(self) -> Result<Loaded<V>, BoxError> {
        match self {
            Ok(loaded) => Ok(loaded.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The result of a loader of many values: `Result<M, E>`, where `M` yields pairs of a key and a
/// `V`, `Option<V>` or [`Loaded<V>`], such as a map or a list, and `E` is any error. A key that it
/// leaves out has no value.
///
/// ```
/// # use std::io;
/// # use larder::Larder;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::Error> {
/// # let cache = Larder::builder().build().await?.cache::<u64, String>("user_profile")?;
/// let users = cache
///     .get_or_load_many(&[1, 2, 3], |ids| async move {
///         let found = ids.into_iter().filter(|id| *id != 2);
///         Ok::<_, io::Error>(found.map(|id| (id, format!("user {id}"))))
///     })
///     .await?;
/// assert_eq!(users.len(), 2, "user 2 does not exist");
/// # Ok(()) }
/// ```
pub trait LoadManyResult<K, V>: sealed::Sealed {
    #[doc(hidden)]
    fn into_loaded(self) -> Result<impl Iterator<Item = (K, Loaded<V>)>, BoxError>;
}

impl<K, V, M, U, E> LoadManyResult<K, V> for Result<M, E>
where
    M: IntoIterator<Item = (K, U)>,
    U: Into<Loaded<V>>,
    E: Into<BoxError>,
{
    fn into_loaded(self) -> Result<impl Iterator<Item = (K, Loaded<V>)>, BoxError> {
        match self {
            Ok(loaded) => Ok(loaded.into_iter().map(|(key, loaded)| (key, loaded.into()))),
            Err(error) => Err(error.into()),
        }
    }
}

mod sealed {
    /// Only the results of loaders: so bounds of the loading methods may be widened later.
    pub trait Sealed {}
    impl<T, E> Sealed for Result<T, E> {}
}
