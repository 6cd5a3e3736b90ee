use crate::{codec::CodecError, tags::TagEpoch};

/// The header in front of a value that has tags: its tag epoch and the tags.
///
/// A value without a header is plain JSON, which never begins with the header's first byte: that
/// byte is not valid in UTF-8.
///
/// | bytes | meaning |
/// | --- | --- |
/// | 1 | `0xFB` |
/// | 1 | the version, 1 |
/// | 1 | flags: 1 says that the entry has the tag of its policy |
/// | 8 | the tag epoch, big-endian |
/// | 2 | the number of tags that follow, big-endian |
/// | 2 + n, each | a tag: its length, big-endian, and its text |
/// | the rest | the value |
///
/// # Examples
/// ```
/// use larder_core::{TagEpoch, ValueHeader};
///
/// let header = ValueHeader { epoch: TagEpoch(7), policy_tag: false, tags: vec!["org:7"] };
/// let mut stored = Vec::new();
/// header.write(&mut stored)?;
/// stored.extend(b"{}");
/// assert_eq!(ValueHeader::read(&stored)?, (Some(header), b"{}".as_slice()));
/// # Ok::<(), larder_core::CodecError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueHeader<'a> {
    /// The tag epoch from before the value was read.
    pub epoch: TagEpoch,
    /// Whether the entry has the tag of its policy, by which the policy is cleared in one step.
    pub policy_tag: bool,
    /// The entry's tags, each of at most 65,535 bytes.
    pub tags: Vec<&'a str>,
}

const MARK: u8 = 0xFB;
const VERSION: u8 = 1;
const POLICY_TAG: u8 = 1;

impl<'a> ValueHeader<'a> {
    /// Appends the header to `out`. The value's bytes follow.
    ///
    /// # Errors
    /// [`CodecError`] if there are more than 65,535 tags, or one of them has more bytes than that.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let short = |len: usize| {
            u16::try_from(len)
                .map_err(|_| CodecError::new("it has more tags, or longer ones, than 65,535"))
        };
        out.extend([MARK, VERSION, if self.policy_tag { POLICY_TAG } else { 0 }]);
        out.extend(self.epoch.0.to_be_bytes());
        out.extend(short(self.tags.len())?.to_be_bytes());
        for tag in &self.tags {
            out.extend(short(tag.len())?.to_be_bytes());
            out.extend(tag.as_bytes());
        }
        Ok(())
    }

    /// Tells whether stored bytes begin with a header.
    pub fn is_there(bytes: &[u8]) -> bool {
        bytes.first() == Some(&MARK)
    }

    /// Splits stored bytes into the header, if there is one, and the value's own bytes.
    ///
    /// # Errors
    /// [`CodecError`] if the header is of a later version, or broken.
    pub fn read(bytes: &'a [u8]) -> Result<(Option<Self>, &'a [u8]), CodecError> {
        if !Self::is_there(bytes) {
            return Ok((None, bytes));
        }
        let mut rest = bytes;
        let [_, VERSION, flags @ (0 | POLICY_TAG)] = take(&mut rest)? else {
            return Err(CodecError::new("the value's header is of a later version"));
        };
        let epoch = TagEpoch(u64::from_be_bytes(take(&mut rest)?));
        let mut header = Self {
            epoch,
            policy_tag: flags == POLICY_TAG,
            tags: Vec::new(),
        };
        for _ in 0..u16::from_be_bytes(take(&mut rest)?) {
            let len = usize::from(u16::from_be_bytes(take(&mut rest)?));
            let (tag, after) = rest.split_at_checked(len).ok_or_else(broken)?;
            header
                .tags
                .push(std::str::from_utf8(tag).map_err(|_| broken())?);
            rest = after;
        }
        Ok((Some(header), rest))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(broken)?;
    *rest = after;
    Ok(*taken)
}

fn broken() -> CodecError {
    CodecError::new("the value's header is broken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_every_cut_is_an_error() {
        let header = ValueHeader {
            epoch: TagEpoch(1 << 50),
            policy_tag: true,
            tags: vec!["org:7", "", "ü"],
        };
        let mut bytes = Vec::new();
        header.write(&mut bytes).unwrap();
        for len in 1..bytes.len() {
            assert!(ValueHeader::read(&bytes[..len]).is_err(), "{len}");
        }
        bytes.extend(b"{}");
        assert_eq!(
            ValueHeader::read(&bytes),
            Ok((Some(header), b"{}".as_slice()))
        );
    }

    #[test]
    fn plain_value_has_no_header_and_a_later_version_is_refused() {
        for plain in [b"".as_slice(), b"null", b"{\"a\":1}"] {
            assert_eq!(ValueHeader::read(plain), Ok((None, plain)));
        }
        let later = [&[MARK, 2, 0], [0; 10].as_slice()].concat();
        assert!(
            ValueHeader::read(&later)
                .unwrap_err()
                .to_string()
                .contains("later version")
        );
        let unknown_flag = [&[MARK, 1, 2], [0; 10].as_slice()].concat();
        assert!(ValueHeader::read(&unknown_flag).is_err());
    }

    #[test]
    fn tag_that_is_too_long_is_an_error() {
        let long = "x".repeat(70_000);
        assert!(
            ValueHeader {
                tags: vec![&long],
                ..ValueHeader::default()
            }
            .write(&mut Vec::new())
            .is_err()
        );
    }
}
