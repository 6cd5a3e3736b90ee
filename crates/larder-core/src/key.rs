use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use arrayvec::ArrayString;

/// The longest key, in bytes and with its prefix, that a store is asked for.
pub const MAX_KEY_LEN: usize = 8 * 1024;

/// The bytes of a key that fit on the stack; a longer key is formatted on the heap.
const INLINE: usize = 120;

/// Seeded once for each process, so that nobody outside can choose keys that collide.
static HASHER: LazyLock<foldhash::quality::RandomState> =
    LazyLock::new(foldhash::quality::RandomState::default);

/// Names an entry of a row: an integer, a string, a `Uuid`, or a tuple of such parts.
///
/// Equal text is the same key: `42` and `"42"` name one entry, and so do `(42, "posts")` and `"42:posts"`. Within a
/// tuple, a part's own `:` is written `%3A` and its `%` as `%25`, so that `("a:b", "c")` and `("a", "b:c")` differ.
///
/// ```
/// # use larder_core::KeyBuf;
/// assert_eq!(KeyBuf::format("user", &42).as_str(), "user:42");
/// assert_eq!(KeyBuf::format("user", &("eu:west", 7)).as_str(), "user:eu%3Awest:7");
/// ```
pub trait CacheKey {
    /// Appends the key's text. Must be the same at every call, and should not allocate.
    fn write_to(&self, out: &mut KeyBuf);
}

/// A key while it is formatted: on the stack unless it is long, so that a lookup allocates nothing.
#[derive(Clone, Debug)]
pub struct KeyBuf {
    inline: ArrayString<INLINE>,
    spilled: Option<String>,
    prefix_len: usize,
    in_tuple: bool,
}

/// A key with its hash, borrowed: what the stores look up.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    hash: u64,
    text: &'a str,
}

/// A key with its hash, owned and cheap to clone.
#[derive(Clone)]
pub struct Key {
    hash: u64,
    text: Arc<str>,
    prefix_len: usize,
}

/// A key that no store is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key has no text of its own.
    #[error("the key in {prefix:?} is empty: give the entry a name")]
    Empty {
        /// The row's prefix.
        prefix: String,
    },
    /// The key is longer than [`MAX_KEY_LEN`].
    #[error("the key {start:?}… has {len} bytes, more than {MAX_KEY_LEN}: use a hash of its long part")]
    TooLong {
        /// The first characters of the key.
        start: String,
        /// The key's length in bytes, with its prefix.
        len: usize,
    },
}

impl KeyBuf {
    /// Formats `{prefix}:{key}`.
    #[inline]
    pub fn format<K: CacheKey + ?Sized>(prefix: &str, key: &K) -> Self {
        let mut buf =
            Self { inline: ArrayString::new(), spilled: None, prefix_len: prefix.len() + 1, in_tuple: false };
        buf.push_raw(prefix);
        buf.push_colon();
        key.write_to(&mut buf);
        buf
    }

    /// Appends text; within a tuple, escapes the characters that separate parts.
    #[inline]
    pub fn push(&mut self, text: &str) {
        if !self.in_tuple || !text.contains([':', '%']) {
            return self.push_raw(text);
        }
        let mut utf8 = [0; 4];
        for c in text.chars() {
            self.push_raw(match c {
                ':' => "%3A",
                '%' => "%25",
                c => c.encode_utf8(&mut utf8),
            });
        }
    }

    #[inline]
    fn push_raw(&mut self, text: &str) {
        if self.spilled.is_some() || self.inline.try_push_str(text).is_err() {
            self.spill(text);
        }
    }

    #[inline]
    fn push_colon(&mut self) {
        if self.spilled.is_some() || self.inline.try_push(':').is_err() {
            self.spill(":");
        }
    }

    #[cold]
    fn spill(&mut self, text: &str) {
        if let Some(spilled) = &mut self.spilled {
            spilled.push_str(text);
        } else {
            let mut spilled = String::with_capacity(2 * (self.inline.len() + text.len()));
            spilled.push_str(&self.inline);
            spilled.push_str(text);
            self.spilled = Some(spilled);
        }
    }

    /// The key's text, with its prefix.
    #[inline]
    pub fn as_str(&self) -> &str {
        self.spilled.as_deref().unwrap_or(&self.inline)
    }

    /// Hashes the key, once for all stores.
    #[inline]
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef::new(self.as_str())
    }

    /// Tells whether a store may be asked for this key.
    ///
    /// # Errors
    /// [`KeyError`] if it is empty or too long.
    #[inline]
    pub fn check(&self) -> Result<(), KeyError> {
        check(self.as_str(), self.prefix_len)
    }

    /// Makes an owned key. Allocates.
    pub fn to_key(&self) -> Key {
        let text = self.as_str();
        Key { hash: hash(text), text: text.into(), prefix_len: self.prefix_len }
    }
}

#[inline]
fn check(text: &str, prefix_len: usize) -> Result<(), KeyError> {
    if text.len() > prefix_len && text.len() <= MAX_KEY_LEN { Ok(()) } else { Err(refusal(text)) }
}

#[cold]
fn refusal(text: &str) -> KeyError {
    if text.len() > MAX_KEY_LEN {
        return KeyError::TooLong { start: text.chars().take(40).collect(), len: text.len() };
    }
    KeyError::Empty { prefix: text.trim_end_matches(':').to_owned() }
}

#[inline]
fn hash(text: &str) -> u64 {
    let mut hasher = HASHER.build_hasher();
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl<'a> KeyRef<'a> {
    /// Hashes a key's whole text.
    #[inline]
    pub fn new(text: &'a str) -> Self {
        Self { hash: hash(text), text }
    }

    /// A text whose hash is known already.
    #[inline]
    pub(crate) fn hashed(hash: u64, text: &'a str) -> Self {
        Self { hash, text }
    }

    /// The key's hash: the same for equal text in one process, another in every process.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }

    /// The key's text, with its prefix.
    #[inline]
    pub fn as_str(self) -> &'a str {
        self.text
    }
}

impl Key {
    /// Borrows the key with its hash.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { hash: self.hash, text: &self.text }
    }

    /// The key's hash: the same for equal text in one process, another in every process.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The key's text, with its prefix.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The prefix that it was formatted with; empty if it was made from a whole text, so that its prefix is not known.
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix_len.saturating_sub(1)]
    }

    /// Tells whether a store may be asked for this key.
    ///
    /// # Errors
    /// [`KeyError`] if it is empty or too long.
    pub fn check(&self) -> Result<(), KeyError> {
        check(&self.text, self.prefix_len)
    }
}

impl From<&str> for Key {
    /// Takes a key's whole text as it stands in the store.
    fn from(text: &str) -> Self {
        Self { hash: hash(text), text: text.into(), prefix_len: 0 }
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
        state.write_u64(self.hash);
    }
}

impl PartialEq for KeyRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for KeyRef<'_> {}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl CacheKey for str {
    fn write_to(&self, out: &mut KeyBuf) {
        out.push(self);
    }
}

macro_rules! text_keys {
    ($($t:ty),*) => { $(
        impl CacheKey for $t {
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                out.push(self);
            }
        }
    )* };
}
text_keys!(String, Box<str>, Arc<str>, Cow<'_, str>);

macro_rules! integer_keys {
    ($($t:ty),*) => { $(
        impl CacheKey for $t {
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                out.push_raw(itoa::Buffer::new().format(*self));
            }
        }
    )* };
}
integer_keys!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl<K: CacheKey + ?Sized> CacheKey for &K {
    fn write_to(&self, out: &mut KeyBuf) {
        (**self).write_to(out);
    }
}

#[cfg(feature = "uuid")]
impl CacheKey for uuid::Uuid {
    fn write_to(&self, out: &mut KeyBuf) {
        out.push_raw(self.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
    }
}

macro_rules! tuple_keys {
    ($($first:ident $($rest:ident)*;)*) => { $(
        impl<$first: CacheKey, $($rest: CacheKey),*> CacheKey for ($first, $($rest,)*) {
            #[expect(non_snake_case, reason = "the type parameters name the parts")]
            #[inline]
            fn write_to(&self, out: &mut KeyBuf) {
                let ($first, $($rest,)*) = self;
                let outer = std::mem::replace(&mut out.in_tuple, true);
                $first.write_to(out);
                $( out.push_colon(); $rest.write_to(out); )*
                out.in_tuple = outer;
            }
        }
    )* };
}
tuple_keys! { A B; A B C; A B C D; A B C D E; A B C D E F; }

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: impl CacheKey) -> String {
        KeyBuf::format("user", &key).as_str().to_owned()
    }

    #[test]
    fn keys_of_all_kinds_are_joined_to_the_prefix() {
        assert_eq!(text(42), "user:42");
        assert_eq!(text(-1_i64), "user:-1");
        assert_eq!(text("42"), text(42));
        assert_eq!(text((1, "posts")), "user:1:posts");
        assert_eq!(text((1, String::from("a"), 3_u8)), "user:1:a:3");
        assert_eq!(text(Cow::Borrowed("é")), "user:é");
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn uuid_is_written_with_hyphens() {
        assert_eq!(text(uuid::Uuid::nil()), "user:00000000-0000-0000-0000-000000000000");
    }

    #[test]
    fn tuple_parts_that_hold_a_separator_stay_apart() {
        assert_ne!(text(("a:b", "c")), text(("a", "b:c")));
        assert_ne!(text(("a%3Ab", "c")), text(("a:b", "c")));
    }

    #[test]
    fn long_key_spills_and_stays_whole() {
        let long = "x".repeat(INLINE * 3);
        assert_eq!(text((&long, 7)), format!("user:{long}:7"));
        assert_eq!(KeyBuf::format("user", &long).to_key().as_str(), format!("user:{long}"));
    }

    #[test]
    fn empty_and_huge_keys_are_refused_with_advice() {
        let empty = KeyBuf::format("user", "").check().unwrap_err();
        assert_eq!(empty.to_string(), "the key in \"user\" is empty: give the entry a name");
        let huge = KeyBuf::format("user", &"x".repeat(1 << 20)).check().unwrap_err();
        assert!(huge.to_string().contains("1048581 bytes, more than 8192: use a hash"), "{huge}");
        assert_eq!(KeyBuf::format("user", &"x".repeat(MAX_KEY_LEN - 5)).check(), Ok(()));
    }

    #[test]
    fn borrowed_and_owned_keys_hash_alike() {
        let buf = KeyBuf::format("user", &42);
        assert_eq!(buf.as_ref().hash(), buf.to_key().hash());
        assert_eq!(buf.to_key(), Key::from("user:42"));
    }
}
