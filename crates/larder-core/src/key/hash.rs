use std::{
    hash::{BuildHasher, Hash, Hasher},
    sync::LazyLock,
};

/// Seeded once for each process, so that an outsider cannot choose many keys that collide.
static HASHER: LazyLock<foldhash::quality::RandomState> =
    LazyLock::new(foldhash::quality::RandomState::default);

/// The bytes that are hashed at once, 16.
///
/// Where a text ends within them, zeros follow. So two texts share a hash if they differ only in up
/// to fifteen zeros at their ends.
pub(crate) const CHUNK: usize = size_of::<u128>();

/// The hash of a key's text. Equal texts have equal hashes within one process only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

/// A key with its hash, borrowed, for a look-up in a store.
///
/// # Examples
/// ```
/// use larder_core::{Key, KeyRef};
///
/// let key = Key::from_stored_name("user:42");
/// assert_eq!(key.as_ref(), KeyRef::new("user:42"));
/// assert_eq!(key.hash(), KeyRef::new("user:42").hash());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    hash: KeyHash,
    text: &'a [u8],
}

impl<'a> KeyRef<'a> {
    /// Hashes the whole text of a key.
    #[inline]
    pub fn new(text: &'a str) -> Self {
        Self {
            hash: hash(text.as_bytes()),
            text: text.as_bytes(),
        }
    }

    /// Joins a text with the hash that [`hash`] made of it.
    #[inline]
    pub(crate) fn of_hashed(hash: KeyHash, text: &'a str) -> Self {
        Self {
            hash,
            text: text.as_bytes(),
        }
    }

    /// Hashes the first `len` bytes. Zeros must follow them.
    #[inline]
    pub(crate) fn of_padded(bytes: &'a [u8], len: usize) -> Self {
        let (chunks, _) = bytes[..len.next_multiple_of(CHUNK)].as_chunks();
        Self {
            hash: hash_chunks(chunks.iter().map(|chunk| u128::from_le_bytes(*chunk))),
            text: &bytes[..len],
        }
    }

    /// The hash of the key's text.
    #[inline]
    pub fn hash(self) -> KeyHash {
        self.hash
    }

    /// The key's whole text in UTF-8, prefix included.
    #[inline]
    pub fn as_bytes(self) -> &'a [u8] {
        self.text
    }
}

impl PartialEq for KeyRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for KeyRef<'_> {}

/// Feeds the finished hash, so that a map with a pass-through hasher hashes no key twice.
impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash.0);
    }
}

/// Hashes a whole text.
#[inline]
pub(crate) fn hash(text: &[u8]) -> KeyHash {
    let (whole, rest) = text.as_chunks::<CHUNK>();
    let whole = whole.iter().map(|chunk| u128::from_le_bytes(*chunk));
    hash_chunks(whole.chain((!rest.is_empty()).then(|| padded(rest))))
}

#[inline]
fn hash_chunks(chunks: impl Iterator<Item = u128>) -> KeyHash {
    let mut hasher = HASHER.build_hasher();
    chunks.for_each(|chunk| hasher.write_u128(chunk));
    KeyHash(hasher.finish())
}

/// Puts zeros behind a text that is shorter than a chunk.
///
/// The text's beginning and its end are read as whole words and put together. Where the words
/// overlap, they are equal.
#[inline]
fn padded(text: &[u8]) -> u128 {
    let both = |begin: u64, end: u64, len: usize| {
        u128::from(begin) | u128::from(end) << (8 * (text.len() - len))
    };
    if let (Some(begin), Some(end)) = (text.first_chunk(), text.last_chunk()) {
        return both(u64::from_le_bytes(*begin), u64::from_le_bytes(*end), 8);
    }
    if let (Some(begin), Some(end)) = (text.first_chunk(), text.last_chunk()) {
        return both(
            u32::from_le_bytes(*begin).into(),
            u32::from_le_bytes(*end).into(),
            4,
        );
    }
    text.iter()
        .rev()
        .fold(0, |chunk, byte| chunk << 8 | u128::from(*byte))
}

/// Tells whether two texts are equal. Most keys are short, and then this costs less than `memcmp`.
#[inline]
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    fn ends<const N: usize>(text: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        // Together they are all of it: where it is shorter than both, they overlap.
        if text.len() > 2 * N {
            None
        } else {
            text.first_chunk().zip(text.last_chunk())
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
