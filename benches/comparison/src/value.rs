use serde::{Deserialize, Serialize};

/// The value that every cache holds; as JSON it has about 300 bytes, or as many more as `about` is
/// longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The number in its key.
    pub id: u64,
    /// The number of times that it was written.
    pub version: u64,
    /// A short text.
    pub name: String,
    /// Another short text.
    pub mail: String,
    /// A long text.
    pub about: String,
}

impl User {
    /// Makes a user whose long text has this many bytes.
    pub fn new(id: u64, about: usize) -> Self {
        const TEXT: &str = "likes caches that say what they promise, and promise what they keep; ";
        let about = TEXT.bytes().cycle().take(about).map(char::from).collect();
        Self {
            id,
            version: 0,
            name: format!("user {id}"),
            mail: format!("user.{id}@example.org"),
            about,
        }
    }
}

/// A key, in both forms that caches take: a number, and the text that it has in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The number, for caches that format keys by themselves.
    pub id: u64,
    /// `user:` and the number.
    pub text: String,
}

impl Key {
    /// The key with this number.
    pub fn new(id: u64) -> Self {
        Self {
            id,
            text: format!("user:{id}"),
        }
    }

    /// The first keys, by number.
    pub fn first(many: u64) -> Vec<Self> {
        (0..many).map(Self::new).collect()
    }
}
