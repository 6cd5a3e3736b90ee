use std::{borrow::Borrow, error::Error, fmt, future::Future};

use crate::{Database, Key, User};

/// The reason why something was not measured.
pub type Problem = Box<dyn Error + Send + Sync>;

/// A cache that is compared. An adapter uses the calls that the cache's own documentation says are
/// fastest, and no others.
pub trait Subject: Clone + Send + Sync + 'static {
    /// The result of a read: a value of its own, or a share of one.
    type Value: Borrow<User> + Send;

    /// Makes the cache, or returns the setting that it [cannot](cannot) have.
    fn open(setting: &Setting) -> impl Future<Output = Result<Self, Problem>> + Send;

    /// Reads; a miss is `None`.
    fn get(&self, key: &Key) -> impl Future<Output = Option<Self::Value>> + Send;

    /// Puts a value into all its levels.
    fn insert(&self, key: &Key, user: User) -> impl Future<Output = Result<(), Problem>> + Send;

    /// Reads, and loads on a miss, with its own protection against many loads of one key.
    fn get_or_load(
        &self,
        key: &Key,
        database: &Database,
    ) -> impl Future<Output = Result<Self::Value, Problem>> + Send;

    /// Writes the database and all levels; a cache that has no such call is used as its users do:
    /// first the one, then the other.
    fn write_through(
        &self,
        key: &Key,
        user: User,
        database: &Database,
    ) -> impl Future<Output = Result<(), Problem>> + Send {
        async move {
            let user = database.write(user).await;
            self.insert(key, user).await
        }
    }

    /// Removes a key from every level of every process.
    fn invalidate(&self, key: &Key) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// The setting that a subject is made for.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The levels that it shall have.
    pub levels: Levels,
    /// The address of Redis.
    pub redis: String,
    /// The capacity of its L1, in entries.
    pub capacity: u64,
    /// Whether invalidations must reach other processes.
    pub coherent: bool,
}

/// The levels that a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// In the process only.
    Local,
    /// In Redis only.
    Remote,
    /// All that it has.
    All,
}

/// Something that a cache has no way to do: an answer, not a failure.
#[derive(Debug)]
pub struct Cannot(&'static str);

/// Returns the answer for something that a subject cannot do.
///
/// # Errors
/// Always: it is how an adapter ends.
pub fn cannot<T>(what: &'static str) -> Result<T, Problem> {
    Err(Box::new(Cannot(what)))
}

impl fmt::Display for Cannot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Cannot {}
