use std::{
    fmt,
    hash::{Hash, Hasher},
};

use smol_str::SmolStr;

use super::hash::{KeyHash, KeyRef, hash};

/// The longest key that a store is asked for: 8 KiB, prefix included.
pub const MAX_KEY_LEN: usize = 8 * 1024;

/// A key with its hash, owned and cheap to clone.
///
/// A cache makes it of the application's own key, so that its text has the policy's prefix.
///
/// # Examples
/// ```
/// use larder_core::KeyBuf;
///
/// let key = KeyBuf::format::<(u64, String)>("posts", &(42, "latest")).to_key();
/// assert_eq!((key.as_str(), key.prefix()), ("posts:42:latest", "posts"));
/// ```
#[derive(Clone)]
pub struct Key {
    hash: KeyHash,
    /// Up to 23 bytes lie here, without an allocation. All clones share a longer text.
    text: SmolStr,
    /// Zero where the prefix is not known, else its length and that of the colon behind it.
    prefix_len: usize,
}

/// A key that no store is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has no text of its own.
    #[error("the key in {prefix:?} is empty: give the entry a name")]
    Empty {
        /// The prefix of the policy.
        prefix: String,
    },
    /// The key is longer than [`MAX_KEY_LEN`].
    #[error(
        "the key {start:?}… has {len} bytes, more than {MAX_KEY_LEN}: use a hash of its long part"
    )]
    TooLong {
        /// The first characters of the key.
        start: String,
        /// The key's length in bytes, prefix included.
        len: usize,
    },
}

#[inline]
pub(crate) fn is_valid(len: usize, prefix_len: usize) -> bool {
    len > prefix_len && len <= MAX_KEY_LEN
}

pub(crate) fn check(text: &str, prefix_len: usize) -> Result<(), KeyError> {
    match text.len() {
        len if is_valid(len, prefix_len) => Ok(()),
        len if len > MAX_KEY_LEN => Err(KeyError::TooLong {
            start: text.chars().take(40).collect(),
            len,
        }),
        _ => Err(KeyError::Empty {
            prefix: text.trim_end_matches(':').to_owned(),
        }),
    }
}

impl Key {
    pub(crate) fn new(text: &str, prefix_len: usize) -> Self {
        Self {
            hash: hash(text.as_bytes()),
            text: text.into(),
            prefix_len,
        }
    }

    /// Takes the whole text of a key as it stands in the store, for example from an outbox.
    ///
    /// The text is neither escaped nor given a prefix: `from_stored_name("42")` names the entry
    /// `42`, which no policy has. A cache makes the keys of its own entries with `Cache::key`.
    ///
    /// # Examples
    /// ```
    /// use larder_core::Key;
    ///
    /// let key = Key::from_stored_name("posts:42:a%3Ab"); // a name as an outbox keeps it
    /// assert_eq!(key.to_string(), "posts:42:a%3Ab");
    /// ```
    pub fn from_stored_name(name: &str) -> Self {
        Self::new(name, 0)
    }

    /// Borrows the key with its hash.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef::of_hashed(self.hash, &self.text)
    }

    /// The hash of the key's text.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    /// The key's whole text as it stands in the store.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn text(&self) -> &SmolStr {
        &self.text
    }

    /// The text before the key's first colon: namespace, policy prefix and schema.
    ///
    /// Empty for a key [from a stored name](Self::from_stored_name), whose prefix is not known.
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix_len.saturating_sub(1)]
    }

    /// Tells whether a store may be asked for this key.
    ///
    /// # Errors
    /// [`KeyError`] if the key is empty or too long.
    ///
    /// # Examples
    /// ```
    /// use larder_core::{KeyBuf, KeyError};
    ///
    /// let nameless = KeyBuf::format::<str>("user", "").to_key();
    /// assert!(matches!(nameless.check(), Err(KeyError::Empty { .. })));
    /// ```
    pub fn check(&self) -> Result<(), KeyError> {
        check(&self.text, self.prefix_len)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Key {}

/// Feeds the finished hash, so that a map with a pass-through hasher hashes no key twice.
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash.0);
    }
}
