use crate::{
    CacheKey, Key, KeyError, KeyRef,
    key::{CHUNK, check, is_valid},
};

/// A key while it is formatted: on the stack unless it is long, so that a lookup allocates nothing.
#[derive(Clone, Debug)]
pub struct KeyBuf {
    /// Zero from `len` on, as [`KeyRef`] has it.
    inline: [u8; INLINE],
    /// All of it once it has spilled, so that no more is added here.
    len: usize,
    spilled: Option<String>,
    prefix_len: usize,
    in_tuple: bool,
}

/// The bytes of a key that fit on the stack; a longer key is formatted on the heap.
const INLINE: usize = 7 * CHUNK;

/// A processor's word.
const WORD: usize = size_of::<u64>();

impl KeyBuf {
    /// Formats `{prefix}:{key}`.
    pub fn format<K: CacheKey + ?Sized>(prefix: &str, key: &K) -> Self {
        let mut buf = Self::begin(prefix);
        buf.add(key);
        buf
    }

    /// Formats `{prefix}:`, which all keys of a row begin with.
    pub fn begin(prefix: &str) -> Self {
        let mut buf = Self {
            inline: [0; INLINE],
            len: 0,
            spilled: None,
            prefix_len: prefix.len() + 1,
            in_tuple: false,
        };
        buf.push_raw(prefix);
        buf.push_colon();
        buf
    }

    /// Copies what is there, to add a key to it.
    #[inline]
    #[must_use]
    pub fn copy(&self) -> Self {
        if self.spilled.is_some() {
            return self.copy_spilled();
        }
        // All of the array is copied, whose length is known, and not the few bytes in use, which would cost a call.
        Self { inline: self.inline, spilled: None, ..*self }
    }

    #[cold]
    #[inline(never)]
    fn copy_spilled(&self) -> Self {
        self.clone()
    }

    /// Adds a key to what is there.
    #[inline]
    pub fn add<K: CacheKey + ?Sized>(&mut self, key: &K) {
        key.write_to(self);
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
    pub(crate) fn push_raw(&mut self, text: &str) {
        match self.room(text.len()) {
            Some(room) => room.copy_from_slice(text.as_bytes()),
            None => self.spill(text),
        }
    }

    #[inline]
    pub(crate) fn push_colon(&mut self) {
        match self.room(1) {
            Some(room) => room[0] = b':',
            None => self.spill(":"),
        }
    }

    /// Appends a number in decimal. Short ones are worth neither a loop nor a copy.
    #[inline]
    pub(crate) fn push_number(&mut self, number: u32) {
        let added = short_decimal(number).and_then(|(digits, len)| self.add_word(digits, len));
        if added.is_none() {
            self.push_raw(itoa::Buffer::new().format(number));
        }
    }

    /// Appends the first bytes of a word whose others are zero, if there is room for all of them.
    ///
    /// It writes the words that a hash is about to read, and no bytes across them: what has been written in other pieces
    /// than it is read in must reach the cache first, which takes a processor as long as all the rest.
    #[inline]
    fn add_word(&mut self, text: u64, len: usize) -> Option<()> {
        let (begin, shift) = (self.len & !(WORD - 1), 8 * (self.len & (WORD - 1)));
        let (first, room) = self.inline.get_mut(begin..)?.split_first_chunk_mut::<WORD>()?;
        let second = room.first_chunk_mut::<WORD>()?;
        *first = (u64::from_le_bytes(*first) | text << shift).to_le_bytes();
        *second = (text >> 1 >> (63 - shift)).to_le_bytes();
        self.len += len;
        Some(())
    }

    /// Starts and ends a part that is a tuple; returns what it was before.
    #[inline]
    pub(crate) fn set_in_tuple(&mut self, yes: bool) -> bool {
        std::mem::replace(&mut self.in_tuple, yes)
    }

    /// So many more bytes on the stack, if there are.
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

    /// The key's text, with its prefix.
    #[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "nothing but whole texts was pushed")]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("whole texts are UTF-8")
    }

    /// The key's text, with its prefix, in UTF-8.
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
    /// [`KeyError`] if it is empty or too long.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.is_valid() { Ok(()) } else { check(self.as_str(), self.prefix_len) }
    }

    /// Makes an owned key. One of more than 23 bytes, prefix included, is allocated.
    pub fn to_key(&self) -> Key {
        Key::new(self.as_str(), self.prefix_len)
    }
}

/// A number of at most eight digits in decimal, the first one in the lowest byte, and how many of the bytes that is: the
/// digits are split off all at once, as parts of one integer.
#[inline]
fn short_decimal(number: u32) -> Option<(u64, usize)> {
    if number >= 100_000_000 {
        return None;
    }
    // Two numbers of four digits; the one that comes first in the text lies in the low half.
    let fours = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    // Each is split in two: n / 100 is n * 10486 >> 20 for n < 10,000, n / 10 is n * 103 >> 10 for n < 100.
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
        let numbers = (0..20_000).chain(powers.flat_map(|n| [n - 1, n, n + 1])).chain([99_999_999]);
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
            assert_eq!(KeyBuf::format("user", &(&long, 7)).as_str(), format!("user:{long}:7"));
            assert_eq!(KeyBuf::format(&long, &42).as_str(), format!("{long}:42"));
        }
        let long = "x".repeat(INLINE * 3);
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
}
