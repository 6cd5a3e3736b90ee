use std::{
    borrow::Cow,
    fmt,
    hash::{BuildHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use smol_str::SmolStr;

use crate::KeyBuf;

/// The longest key, in bytes and with its prefix, that a store is asked for.
pub const MAX_KEY_LEN: usize = 8 * 1024;

/// Seeded once for each process, so that nobody outside can choose many keys that collide.
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

/// A key with its hash, borrowed: what the stores look up.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    hash: u64,
    text: &'a [u8],
}

/// A key with its hash, owned and cheap to clone.
#[derive(Clone)]
pub struct Key {
    hash: u64,
    /// Up to 23 bytes are kept here, without an allocation; longer texts are shared by all clones.
    text: SmolStr,
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

#[inline]
pub(crate) fn is_valid(len: usize, prefix_len: usize) -> bool {
    len > prefix_len && len <= MAX_KEY_LEN
}

pub(crate) fn check(text: &str, prefix_len: usize) -> Result<(), KeyError> {
    match text.len() {
        len if is_valid(len, prefix_len) => Ok(()),
        len if len > MAX_KEY_LEN => Err(KeyError::TooLong { start: text.chars().take(40).collect(), len }),
        _ => Err(KeyError::Empty { prefix: text.trim_end_matches(':').to_owned() }),
    }
}

/// So many bytes are hashed at once. Where a text ends within them, zeros follow: so texts that differ in nothing but up to
/// fifteen zeros at their ends share a hash.
pub(crate) const CHUNK: usize = size_of::<u128>();

#[inline]
fn hash(text: &[u8]) -> u64 {
    let (whole, rest) = text.as_chunks::<CHUNK>();
    let whole = whole.iter().map(|chunk| u128::from_le_bytes(*chunk));
    hash_chunks(whole.chain((!rest.is_empty()).then(|| padded(rest))))
}

#[inline]
fn hash_chunks(chunks: impl Iterator<Item = u128>) -> u64 {
    let mut hasher = HASHER.build_hasher();
    chunks.for_each(|chunk| hasher.write_u128(chunk));
    hasher.finish()
}

/// A text that is shorter than a chunk, with zeros behind it. Its beginning and its end are put together; where they
/// overlap, they are the same.
#[inline]
fn padded(text: &[u8]) -> u128 {
    let both =
        |begin: u64, end: u64, len: usize| u128::from(begin) | u128::from(end) << (8 * (text.len() - len));
    if let (Some(begin), Some(end)) = (text.first_chunk(), text.last_chunk()) {
        return both(u64::from_le_bytes(*begin), u64::from_le_bytes(*end), 8);
    }
    if let (Some(begin), Some(end)) = (text.first_chunk(), text.last_chunk()) {
        return both(u32::from_le_bytes(*begin).into(), u32::from_le_bytes(*end).into(), 4);
    }
    text.iter().rev().fold(0, |chunk, byte| chunk << 8 | u128::from(*byte))
}

/// Tells whether two texts are the same. Most keys are short, and then this costs less than a call of `memcmp`.
#[inline]
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    fn ends<const N: usize>(text: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        // Together they are all of it: where it is shorter than both, they overlap.
        if text.len() > 2 * N { None } else { text.first_chunk().zip(text.last_chunk()) }
    }
    if one.len() != other.len() {
        return false;
    }
    if let (Some(one), Some(other)) = (ends::<4>(one), ends::<4>(other)) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (ends::<8>(one), ends::<8>(other)) {
        return one == other;
    }
    if let (Some(one), Some(other)) = (ends::<16>(one), ends::<16>(other)) {
        return one == other;
    }
    one == other
}

impl<'a> KeyRef<'a> {
    /// Hashes a key's whole text.
    #[inline]
    pub fn new(text: &'a str) -> Self {
        Self { hash: hash(text.as_bytes()), text: text.as_bytes() }
    }

    /// Hashes the first `len` bytes, behind which zeros follow.
    #[inline]
    pub(crate) fn of_padded(bytes: &'a [u8], len: usize) -> Self {
        let (chunks, _) = bytes[..len.next_multiple_of(CHUNK)].as_chunks();
        Self {
            hash: hash_chunks(chunks.iter().map(|chunk| u128::from_le_bytes(*chunk))),
            text: &bytes[..len],
        }
    }

    /// The key's hash: the same for equal text in one process, another in every process.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }

    /// The key's text, with its prefix, in UTF-8.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.text
    }
}

impl Key {
    /// Takes a whole name as it stands in the store, whose prefix is not known.
    pub fn from_stored_name(name: &str) -> Self {
        Self::new(name, 0)
    }

    pub(crate) fn new(text: &str, prefix_len: usize) -> Self {
        Self { hash: hash(text.as_bytes()), text: text.into(), prefix_len }
    }

    /// Borrows the key with its hash.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { hash: self.hash, text: self.text.as_bytes() }
    }

    /// The key's hash: the same for equal text in one process, another in every process.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The key's text, with its prefix.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn text(&self) -> &SmolStr {
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
                match u32::try_from(*self) {
                    Ok(small) => out.push_number(small),
                    Err(_) => out.push_raw(itoa::Buffer::new().format(*self)),
                }
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
                let outer = out.set_in_tuple(true);
                $first.write_to(out);
                $( out.push_colon(); $rest.write_to(out); )*
                out.set_in_tuple(outer);
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
    fn numbers_of_every_length_are_written_in_full() {
        let mut n = 1_u64;
        while let Some(next) = n.checked_mul(10) {
            for n in [n - 1, n, n + 1, 5 * (n / 3)] {
                assert_eq!(text(n), format!("user:{n}"));
            }
            n = next;
        }
        assert_eq!(text(u32::MAX), format!("user:{}", u32::MAX));
        assert_eq!(text(u128::MAX), format!("user:{}", u128::MAX));
        assert_eq!(text(i64::MIN), format!("user:{}", i64::MIN));
    }

    #[test]
    fn texts_are_the_same_if_every_byte_is() {
        for len in 0..70 {
            let one = vec![b'x'; len];
            assert!(is_same(&one, &one.clone()));
            assert!(!is_same(&one, &vec![b'x'; len + 1]));
            for at in 0..len {
                let mut other = one.clone();
                other[at] = b'y';
                assert!(!is_same(&one, &other), "{len} bytes, another one at {at}");
            }
        }
    }

    #[test]
    fn borrowed_and_owned_keys_hash_alike() {
        for len in 0..200 {
            let prefix = "p".repeat(len);
            for buf in [KeyBuf::format(&prefix, &42), KeyBuf::format("user", &(12_345_678, &prefix, 9))] {
                assert_eq!(buf.as_ref().hash(), buf.to_key().hash(), "{buf:?}");
                assert_eq!(buf.to_key(), Key::from_stored_name(buf.as_str()));
                assert_ne!(buf.to_key().hash(), Key::from_stored_name(&buf.as_str()[1..]).hash());
            }
        }
    }
}
