//! Reads of the pins of tags.

use deadpool_redis::redis::{Pipeline, RedisResult, Value};

use crate::{command::target::Target, error::is_wrong_type};

/// The digits of the largest epoch, and one more: a pin of another program's may be of any size.
const DIGITS: usize = 17;

/// Reads the epoch under which each tag is pinned. `None` for a tag that is not pinned, and for one
/// whose pin no larder has written.
pub(crate) async fn read(mut on: Target, tags: &[&str]) -> RedisResult<Vec<Option<u64>>> {
    let mut commands = Pipeline::with_capacity(tags.len());
    for tag in tags {
        commands
            .cmd("GETRANGE")
            .arg(on.names().tag(tag))
            .arg(0)
            .arg(DIGITS - 1);
    }
    let replies = on
        .connection
        .send_packed_commands(&commands, 0, tags.len())
        .await?;
    replies.into_iter().map(pin).collect()
}

pub(crate) fn pin(reply: Value) -> RedisResult<Option<u64>> {
    match reply.extract_error() {
        Ok(Value::BulkString(digits)) => Ok(number(&digits)),
        Ok(_) => Ok(None),
        Err(error) if is_wrong_type(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number that these digits make, if they are an epoch.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.len() < DIGITS && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits)
        .ok()
        .filter(|_| is_number)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pin_that_no_larder_wrote_is_none() {
        let read = |digits: &str| pin(Value::BulkString(digits.into())).unwrap();
        assert_eq!(read("1764000000000000"), Some(1_764_000_000_000_000));
        for digits in [
            "",
            "-1",
            "+1",
            "1.5",
            "abc",
            "1e9",
            "99999999999999999",
            "\u{664}",
        ] {
            assert_eq!(read(digits), None, "{digits:?}");
        }
        assert_eq!(pin(Value::Nil).unwrap(), None);
    }
}
