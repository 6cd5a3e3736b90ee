//! The lines in which a node tells the conductor what it did.

use std::fmt;

use crate::keys::Key;

/// One read that was answered with a value. Times are in nanoseconds, the same clock for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// The process that read.
    pub node: u16,
    /// The key that it read.
    pub key: Key,
    /// The version that it was given.
    pub version: u32,
    /// When it asked.
    pub start: u64,
    /// When it was answered.
    pub end: u64,
    /// Whether it asked for a load of its own, by `refresh`.
    pub refresh: bool,
    /// Where this is known: its process had heard of all that the server had told it before this
    /// moment, so of each write that had returned by then.
    pub heard: Option<u64>,
}

/// One write or invalidation that returned without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// The process that wrote; none for the foreign program.
    pub node: Option<u16>,
    /// The key that it wrote.
    pub key: Key,
    /// The version that it left in the database.
    pub version: u32,
    /// When it returned.
    pub returned: u64,
    /// When the others were told, if they were: later, if the process was cut off.
    pub told: Option<u64>,
}

/// A process reached every server, with all its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The process; none for the foreign program.
    pub node: Option<u16>,
    /// When it asked the servers.
    pub start: u64,
    /// When all of them had answered.
    pub end: u64,
}

/// A line of a node's standard output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It has a larder, and begins.
    Ready,
    Read(Read),
    Write(Write),
    Linked(Link),
    /// A `get` that found nothing.
    Missed,
    /// A read that failed, which none should.
    ReadFailed(String),
    /// A write that failed: it binds nobody, but may have reached the database.
    WriteFailed(String),
    /// Every operation has ended, and this is all that was told.
    Stopped,
    /// The node's copy of a key.
    Copy(Key, Option<u32>),
    /// That were all copies.
    Copied,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready"),
            Self::Read(Read {
                key,
                version,
                start,
                end,
                refresh,
                ..
            }) => {
                let verb = if *refresh { "f" } else { "r" };
                write!(f, "{verb} {} {version} {start} {end}", key.0)
            }
            Self::Write(Write {
                key,
                version,
                returned,
                told,
                ..
            }) => {
                write!(f, "w {} {version} {returned} {}", key.0, told.unwrap_or(0))
            }
            Self::Linked(Link { start, end, .. }) => write!(f, "l {start} {end}"),
            Self::Missed => write!(f, "missed"),
            Self::ReadFailed(error) => write!(f, "!r {}", error.replace('\n', " ")),
            Self::WriteFailed(error) => write!(f, "!w {}", error.replace('\n', " ")),
            Self::Stopped => write!(f, "stopped"),
            Self::Copy(key, version) => write!(f, "c {} {}", key.0, version.map_or(-1, i64::from)),
            Self::Copied => write!(f, "copied"),
        }
    }
}

impl Line {
    /// Reads a line of this node.
    pub(crate) fn parse(line: &str, node: u16) -> Option<Self> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = |at: usize| rest.split(' ').nth(at)?.parse::<u64>().ok();
        let key = || Some(Key(u16::try_from(number(0)?).ok()?));
        let version = || u32::try_from(number(1)?).ok();
        Some(match kind {
            "ready" => Self::Ready,
            "r" | "f" => Self::Read(Read {
                node,
                key: key()?,
                version: version()?,
                start: number(2)?,
                end: number(3)?,
                refresh: kind == "f",
                heard: None,
            }),
            "w" => Self::Write(Write {
                node: Some(node),
                key: key()?,
                version: version()?,
                returned: number(2)?,
                told: number(3).filter(|told| *told > 0),
            }),
            "l" => Self::Linked(Link {
                node: Some(node),
                start: number(0)?,
                end: number(1)?,
            }),
            "missed" => Self::Missed,
            "!r" => Self::ReadFailed(rest.to_owned()),
            "!w" => Self::WriteFailed(rest.to_owned()),
            "stopped" => Self::Stopped,
            "c" => Self::Copy(key()?, version()),
            "copied" => Self::Copied,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_as_it_was_written() {
        let write = Write {
            node: Some(2),
            key: Key(7),
            version: 9,
            returned: 11,
            told: Some(12),
        };
        let read = Read {
            node: 2,
            key: Key(7),
            version: 9,
            start: 10,
            end: 11,
            refresh: false,
            heard: None,
        };
        let lines = [
            Line::Ready,
            Line::Read(read),
            Line::Read(Read {
                refresh: true,
                ..read
            }),
            Line::Write(write),
            Line::Write(Write {
                told: None,
                ..write
            }),
            Line::Linked(Link {
                node: Some(2),
                start: 3,
                end: 4,
            }),
            Line::Missed,
            Line::ReadFailed("no such thing".to_owned()),
            Line::WriteFailed("busy".to_owned()),
            Line::Stopped,
            Line::Copy(Key(7), Some(3)),
            Line::Copy(Key(7), None),
            Line::Copied,
        ];
        for line in lines {
            assert_eq!(Line::parse(&line.to_string(), 2), Some(line));
        }
        assert_eq!(Line::parse("r 7", 2), None);
        assert_eq!(Line::parse("warning: something else", 2), None);
    }
}
