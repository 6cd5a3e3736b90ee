/// Returns the length of the first reply or push; `None` while its end has not arrived.
///
/// Source: [RESP3](https://redis.io/docs/latest/develop/reference/protocol-spec/).
pub(crate) fn first_frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let count = std::str::from_utf8(&bytes[1..line - 2])
        .ok()
        .and_then(|text| text.parse::<usize>().ok());
    match (bytes[0], count) {
        (b'$' | b'=' | b'!', Some(len)) => Some(line + len + 2).filter(|end| *end <= bytes.len()),
        (b'*' | b'~' | b'>', Some(parts)) => all(bytes, line, parts),
        (b'%' | b'|', Some(pairs)) => all(bytes, line, 2 * pairs),
        _ => Some(line),
    }
}

/// Tells whether a frame is a push: one that answers no request.
pub(crate) fn is_push(frame: &[u8]) -> bool {
    frame.first() == Some(&b'>')
}

fn all(bytes: &[u8], mut end: usize, parts: usize) -> Option<usize> {
    for _ in 0..parts {
        end += first_frame(bytes.get(end..)?)?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_found_and_parts_are_not() {
        for frame in [
            "+OK\r\n",
            "$3\r\nabc\r\n",
            "$-1\r\n",
            "_\r\n",
            "*2\r\n:1\r\n$2\r\n\r\n\r\n",
            ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n",
            "%1\r\n+a\r\n*0\r\n",
        ] {
            for len in 0..frame.len() {
                assert_eq!(
                    first_frame(&frame.as_bytes()[..len]),
                    None,
                    "{frame:?} cut to {len}"
                );
            }
            let more = format!("{frame}+more\r\n");
            assert_eq!(first_frame(more.as_bytes()), Some(frame.len()), "{frame:?}");
            assert_eq!(is_push(frame.as_bytes()), frame.starts_with('>'));
        }
    }
}
