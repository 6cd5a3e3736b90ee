//! Hash slots: which of the 16,384 parts of a cluster a key belongs to.
//!
//! Source: [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).

use std::sync::LazyLock;

use crc::{CRC_16_XMODEM, Crc};

/// The number of hash slots.
pub(crate) const SLOTS: u16 = 16_384;

static XMODEM: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// Computes the hash slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    XMODEM.checksum(hash_tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// The part of a key that decides its slot: the text between its first `{` and the next `}`, unless
/// that is empty.
pub(crate) fn hash_tag(key: &str) -> Option<&str> {
    // Every command computes a slot, and keys are short: a plain loop is faster than a search for a
    // `char`.
    let find = |from: usize, byte: u8| key.as_bytes()[from..].iter().position(|at| *at == byte);
    let start = find(0, b'{')? + 1;
    let len = find(start, b'}')?;
    (len > 0).then(|| &key[start..start + len])
}

/// The least number whose decimal text, as a hash tag, lies in this slot.
pub(crate) fn number_in_slot(sought: u16) -> u32 {
    NUMBERS[usize::from(sought % SLOTS)]
}

/// The greatest of the numbers that [`number_in_slot`] finds.
const LAST_NUMBER: u32 = 109_757;

/// The number of each slot: all are sought once, because one alone takes a millisecond.
static NUMBERS: LazyLock<Box<[u32]>> = LazyLock::new(|| {
    let mut numbers = vec![None; usize::from(SLOTS)];
    for number in 0..=LAST_NUMBER {
        numbers[usize::from(slot(&number.to_string()))].get_or_insert(number);
    }
    numbers.into_iter().map(Option::unwrap_or_default).collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"));
    }

    #[test]
    fn number_lies_in_the_slot_it_was_found_for() {
        for sought in 0..SLOTS {
            assert_eq!(slot(&format!("x{{{}}}", number_in_slot(sought))), sought);
        }
        assert_eq!((0..SLOTS).map(number_in_slot).max(), Some(LAST_NUMBER));
    }
}
