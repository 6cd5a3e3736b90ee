use crate::CodecError;

/// What stands in front of a value that needs more than its bytes say: its order number and its tags.
///
/// A value without a frame is plain JSON, which never begins with the frame's first byte: that byte is not valid in
/// UTF-8.
///
/// | bytes | meaning |
/// | --- | --- |
/// | 1 | `0xFB` |
/// | 1 | the version, 1 |
/// | 1 | flags: 1 says that the entry has the tag of its row |
/// | 8 | the order number, big-endian |
/// | 2 | how many tags follow, big-endian |
/// | 2 + n, each | a tag: its length, big-endian, and its text |
/// | the rest | the value |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueHeader<'a> {
    /// A number from before the value was read.
    pub order: u64,
    /// Whether the entry has the tag of its row, by which the row is cleared.
    pub row: bool,
    /// The entry's tags, each of at most 65,535 bytes.
    pub tags: Vec<&'a str>,
}

const MARK: u8 = 0xFB;
const VERSION: u8 = 1;
const ROW: u8 = 1;

impl<'a> ValueHeader<'a> {
    /// Appends the frame to `out`; the value's bytes follow.
    ///
    /// # Errors
    /// [`CodecError`] if there are more tags, or longer ones, than it has room for.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let short = |len: usize| {
            u16::try_from(len).map_err(|_| CodecError::new("it has more tags, or longer ones, than 65,535"))
        };
        out.extend([MARK, VERSION, if self.row { ROW } else { 0 }]);
        out.extend(self.order.to_be_bytes());
        out.extend(short(self.tags.len())?.to_be_bytes());
        for tag in &self.tags {
            out.extend(short(tag.len())?.to_be_bytes());
            out.extend(tag.as_bytes());
        }
        Ok(())
    }

    /// Tells whether stored bytes begin with a frame.
    pub fn is_there(bytes: &[u8]) -> bool {
        bytes.first() == Some(&MARK)
    }

    /// Splits stored bytes into the frame, if there is one, and the value's own bytes.
    ///
    /// # Errors
    /// [`CodecError`] if the frame is of a later version, or broken.
    pub fn read(bytes: &'a [u8]) -> Result<(Option<Self>, &'a [u8]), CodecError> {
        if !Self::is_there(bytes) {
            return Ok((None, bytes));
        }
        let mut rest = bytes;
        let [_, VERSION, flags @ (0 | ROW)] = take(&mut rest)? else {
            return Err(CodecError::new("the value's frame is of a later version"));
        };
        let mut frame =
            Self { order: u64::from_be_bytes(take(&mut rest)?), row: flags == ROW, tags: Vec::new() };
        for _ in 0..u16::from_be_bytes(take(&mut rest)?) {
            let len = usize::from(u16::from_be_bytes(take(&mut rest)?));
            let (tag, after) = rest.split_at_checked(len).ok_or_else(broken)?;
            frame.tags.push(std::str::from_utf8(tag).map_err(|_| broken())?);
            rest = after;
        }
        Ok((Some(frame), rest))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], CodecError> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(broken)?;
    *rest = after;
    Ok(*taken)
}

fn broken() -> CodecError {
    CodecError::new("the value's frame is broken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_round_trips_and_every_cut_is_an_error() {
        let frame = ValueHeader { order: 1 << 50, row: true, tags: vec!["org:7", "", "ü"] };
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        for len in 1..bytes.len() {
            assert!(ValueHeader::read(&bytes[..len]).is_err(), "{len}");
        }
        bytes.extend(b"{}");
        assert_eq!(ValueHeader::read(&bytes), Ok((Some(frame), b"{}".as_slice())));
    }

    #[test]
    fn plain_value_has_no_frame_and_a_later_version_is_refused() {
        for plain in [b"".as_slice(), b"null", b"{\"a\":1}"] {
            assert_eq!(ValueHeader::read(plain), Ok((None, plain)));
        }
        let later = [&[MARK, 2, 0], [0; 10].as_slice()].concat();
        assert!(ValueHeader::read(&later).unwrap_err().to_string().contains("later version"));
        let unknown_flag = [&[MARK, 1, 2], [0; 10].as_slice()].concat();
        assert!(ValueHeader::read(&unknown_flag).is_err());
    }

    #[test]
    fn tag_that_is_too_long_is_an_error() {
        let long = "x".repeat(70_000);
        assert!(ValueHeader { tags: vec![&long], ..ValueHeader::default() }.write(&mut Vec::new()).is_err());
    }
}
