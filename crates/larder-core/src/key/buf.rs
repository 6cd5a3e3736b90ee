use super::{
    hash::{CHUNK, KeyRef},
    owned::{Key, KeyError, check, is_valid},
};

/// Names an entry of a cache whose keys are of the type `K`.
///
/// A `K` names one, a `&K` does, and so does a borrowed form: `&str` where `K` is `String`, and
/// `(UserId, &str)` where it is `(UserId, String)`. Nothing is allocated for it.
///
/// # Text
/// A key is stored as `{prefix}:{parts}`. No two keys of a type have the same text:
///
/// | key | parts |
/// | --- | --- |
/// | integer, `bool`, `char`, `Uuid` | one, such as `42`, `true`, `x` |
/// | text | one, in which `:` is written `%3A`, `%` is `%25`, `{` is `%7B` and `}` is `%7D` |
/// | tuple, struct | those of its fields in their order, joined by `:` |
/// | newtype | those of its field |
/// | enum, also `Option` | the variant's name, then those of its fields |
///
/// # Implementing
/// Use the derive macro of the same name. By hand, an implementation writes at least one part, the
/// same ones at every call, and the text must tell any two keys apart.
///
/// # Examples
/// ```
/// use larder_core::{CacheKey, KeyBuf};
///
/// #[derive(CacheKey)]
/// struct UserId(u64);
///
/// let posts = |key: &(UserId, &str)| {
///     KeyBuf::format::<(UserId, String)>("posts", key).as_str().to_owned()
/// };
/// assert_eq!(posts(&(UserId(42), "latest")), "posts:42:latest");
/// assert_eq!(posts(&(UserId(42), "a:b")), "posts:42:a%3Ab");
/// ```
///
/// A key of another type does not compile:
/// ```compile_fail,E0277
/// # use larder_core::{CacheKey, KeyBuf};
/// #[derive(CacheKey)]
/// struct UserId(u64);
///
/// KeyBuf::format::<UserId>("user", &42_u64);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name a key of the type `{K}`",
    label = "not a key of the type `{K}`",
    note = "a key type of the application derives it: `#[derive(CacheKey)]`"
)]
pub trait CacheKey<K: ?Sized = Self> {
    /// Appends the parts of the key.
    fn write_to(&self, out: &mut KeyBuf);
}

/// A key while it is formatted. It lies on the stack unless it is long, so a look-up allocates
/// nothing.
///
/// # Examples
/// ```
/// use larder_core::KeyBuf;
///
/// let key = KeyBuf::format::<u64>("user", &42);
/// assert_eq!(key.as_str(), "user:42");
/// ```
#[derive(Clone, Debug)]
pub struct KeyBuf {
    /// Zero from `len` on, as [`KeyRef`] has it.
    inline: [u8; INLINE],
    /// `INLINE` once the text has spilled, so that no more is added here.
    len: usize,
    spilled: Option<String>,
    prefix_len: usize,
}

/// The bytes of a key that fit on the stack, 112. A longer key is formatted on the heap.
const INLINE: usize = 7 * CHUNK;

/// A processor's word, 8 bytes.
const WORD: usize = size_of::<u64>();

impl KeyBuf {
    /// Formats `{prefix}:{key}`, where `key` names one of the type `K`.
    pub fn format<K: ?Sized>(prefix: &str, key: &(impl CacheKey<K> + ?Sized)) -> Self {
        let mut buf = Self::begin(prefix);
        buf.add(key);
        buf
    }

    /// Formats `{prefix}:`, with which all keys of a policy begin.
    ///
    /// # Examples
    /// ```
    /// use larder_core::KeyBuf;
    ///
    /// let users = KeyBuf::begin("user"); // once
    /// let mut key = users.copy(); // for each key
    /// key.add::<u64>(&42);
    /// assert_eq!(key.as_str(), "user:42");
    /// ```
    pub fn begin(prefix: &str) -> Self {
        let mut buf = Self {
            inline: [0; INLINE],
            len: 0,
            spilled: None,
            prefix_len: prefix.len() + 1,
        };
        buf.push_raw(prefix);
        buf.next_part();
        buf
    }

    /// Copies the text so far, in order to add a key to it.
    #[inline]
    #[must_use]
    pub fn copy(&self) -> Self {
        if self.spilled.is_some() {
            return self.copy_spilled();
        }
        // The length of the array is known. To copy only the bytes in use would cost a call.
        Self {
            inline: self.inline,
            spilled: None,
            ..*self
        }
    }

    #[cold]
    #[inline(never)]
    fn copy_spilled(&self) -> Self {
        self.clone()
    }

    /// Appends a key.
    #[inline]
    pub fn add<K: ?Sized>(&mut self, key: &(impl CacheKey<K> + ?Sized)) {
        key.write_to(self);
    }

    /// Appends text to the current part. A `:` in it is written `%3A`, and a `%` is `%25`. A `{` is
    /// written `%7B`, and a `}` is `%7D`: in a Redis Cluster, keys with the same text in braces
    /// would all lie on one master.
    ///
    /// # Examples
    /// ```
    /// use larder_core::{CacheKey, KeyBuf};
    ///
    /// /// A version, with the major one as the first part.
    /// struct Version(u32, String);
    ///
    /// impl CacheKey for Version {
    ///     fn write_to(&self, out: &mut KeyBuf) {
    ///         self.0.write_to(out);
    ///         out.next_part();
    ///         out.push(&self.1);
    ///     }
    /// }
    ///
    /// let key = KeyBuf::format::<Version>("docs", &Version(2, "rc:1".into()));
    /// assert_eq!(key.as_str(), "docs:2:rc%3A1");
    /// ```
    #[inline]
    pub fn push(&mut self, text: &str) {
        // Without an early end, so that the compiler looks at many bytes at once.
        let is_plain = text
            .bytes()
            .fold(true, |plain, byte| plain & !is_escaped(byte.into()));
        if is_plain {
            self.push_raw(text)
        } else {
            self.push_escaped(text)
        }
    }

    /// Ends the current part with a `:` and begins the next one.
    #[inline]
    pub fn next_part(&mut self) {
        match self.room(1) {
            Some(room) => room[0] = b':',
            None => self.spill(":"),
        }
    }

    #[cold]
    fn push_escaped(&mut self, text: &str) {
        for piece in text.split_inclusive(is_escaped) {
            let plain = piece.trim_end_matches(is_escaped);
            self.push_raw(plain);
            match &piece[plain.len()..] {
                ":" => self.push_raw("%3A"),
                "%" => self.push_raw("%25"),
                "{" => self.push_raw("%7B"),
                "}" => self.push_raw("%7D"),
                _ => {}
            }
        }
    }

    #[inline]
    pub(crate) fn push_raw(&mut self, text: &str) {
        match self.room(text.len()) {
            Some(room) => room.copy_from_slice(text.as_bytes()),
            None => self.spill(text),
        }
    }

    /// Appends a number in decimal. Short numbers are worth neither a loop nor a copy.
    #[inline]
    pub(crate) fn push_number(&mut self, number: u32) {
        let added = short_decimal(number).and_then(|(digits, len)| self.add_word(digits, len));
        if added.is_none() {
            self.push_raw(itoa::Buffer::new().format(number));
        }
    }

    /// Appends the first `len` bytes of a word, if there is room. The word's other bytes are zero.
    ///
    /// It writes the very words that the hash is about to read. A processor that reads a word which
    /// was written in other pieces waits until the pieces are in its cache, about as long as all
    /// the rest takes.
    #[inline]
    fn add_word(&mut self, text: u64, len: usize) -> Option<()> {
        let (begin, shift) = (self.len & !(WORD - 1), 8 * (self.len & (WORD - 1)));
        let (first, room) = self
            .inline
            .get_mut(begin..)?
            .split_first_chunk_mut::<WORD>()?;
        let second = room.first_chunk_mut::<WORD>()?;
        *first = (u64::from_le_bytes(*first) | text << shift).to_le_bytes();
        *second = (text >> 1 >> (63 - shift)).to_le_bytes();
        self.len += len;
        Some(())
    }

    /// Takes `len` more bytes on the stack, if they are there.
    #[inline]
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let room = self.inline.get_mut(self.len..)?.get_mut(..len)?;
        self.len += len;
        Some(room)
    }

    #[cold]
    fn spill(&mut self, text: &str) {
        if let Some(spilled) = &mut self.spilled {
            spilled.push_str(text);
        } else {
            let mut spilled = String::with_capacity(2 * (self.len + text.len()));
            spilled.push_str(self.as_str());
            spilled.push_str(text);
            self.spilled = Some(spilled);
            self.len = INLINE;
        }
    }

    /// The key's text so far, prefix included.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "only whole texts were pushed"
    )]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("whole texts are UTF-8")
    }

    /// The key's text so far in UTF-8, prefix included.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.spilled {
            None => &self.inline[..self.len],
            Some(spilled) => spilled.as_bytes(),
        }
    }

    /// Hashes the key, once for all stores.
    #[inline]
    pub fn as_ref(&self) -> KeyRef<'_> {
        match &self.spilled {
            None => KeyRef::of_padded(&self.inline, self.len),
            Some(spilled) => KeyRef::new(spilled),
        }
    }

    /// Tells whether a store may be asked for this key; [`check`](Self::check) says why it may not.
    #[inline]
    pub fn is_valid(&self) -> bool {
        is_valid(self.as_bytes().len(), self.prefix_len)
    }

    /// Tells whether a store may be asked for this key.
    ///
    /// # Errors
    /// [`KeyError`] if the key is empty or too long.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.is_valid() {
            Ok(())
        } else {
            check(self.as_str(), self.prefix_len)
        }
    }

    /// Makes an owned key. A text of more than 23 bytes, prefix included, is allocated.
    pub fn to_key(&self) -> Key {
        Key::new(self.as_str(), self.prefix_len)
    }
}

/// Whether a character separates parts, begins an escape, or would make a hash tag.
#[inline]
fn is_escaped(character: char) -> bool {
    matches!(character, ':' | '%' | '{' | '}')
}

/// Writes a number of at most eight digits in decimal: the bytes, first digit lowest, and how many.
///
/// All digits are split off at once, as parts of one integer.
#[inline]
fn short_decimal(number: u32) -> Option<(u64, usize)> {
    if number >= 100_000_000 {
        return None;
    }
    // Two numbers of four digits. The one that comes first in the text lies in the low half.
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    // Each is split in two: n / 100 is n * 10486 >> 20 for n < 10,000,
    // and n / 10 is n * 103 >> 10 for n < 100.
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = tens | (twos - 10 * tens) << 8;
    // The zeros in front go, but for the last digit.
    let zeros = (digits.trailing_zeros() / 8).min(7);
    let text = (digits | 0x3030_3030_3030_3030) >> (8 * zeros);
    Some((text, 8 - zeros as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_KEY_LEN;

    #[test]
    fn short_numbers_are_written_as_they_are_elsewhere() {
        let powers = (0..9).map(|exponent| 10_u32.pow(exponent));
        let numbers = (0..20_000)
            .chain(powers.flat_map(|n| [n - 1, n, n + 1]))
            .chain([99_999_999]);
        for number in numbers {
            let Some((digits, len)) = short_decimal(number) else {
                assert!(number >= 100_000_000);
                continue;
            };
            assert_eq!(&digits.to_le_bytes()[..len], number.to_string().as_bytes());
        }
    }

    #[test]
    fn long_key_spills_and_stays_whole() {
        for len in (INLINE - 20..INLINE + 4).chain([INLINE * 3]) {
            let long = "x".repeat(len);
            let key = KeyBuf::format::<(String, u8)>("user", &(&*long, 7));
            assert_eq!(key.as_str(), format!("user:{long}:7"));
            assert_eq!(
                KeyBuf::format::<u8>(&long, &42).as_str(),
                format!("{long}:42")
            );
        }
        let long = "x".repeat(INLINE * 3);
        let key = KeyBuf::format::<str>("user", &long);
        assert_eq!(key.to_key().as_str(), format!("user:{long}"));
    }

    #[test]
    fn empty_and_huge_keys_are_refused_with_advice() {
        let check = |text: &str| KeyBuf::format::<str>("user", text).check();
        let empty = check("").unwrap_err();
        assert_eq!(
            empty.to_string(),
            "the key in \"user\" is empty: give the entry a name"
        );
        let huge = check(&"x".repeat(1 << 20)).unwrap_err();
        assert!(
            huge.to_string()
                .contains("1048581 bytes, more than 8192: use a hash"),
            "{huge}"
        );
        assert_eq!(check(&"x".repeat(MAX_KEY_LEN - 5)), Ok(()));
    }
}
