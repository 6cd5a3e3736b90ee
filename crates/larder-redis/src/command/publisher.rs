//! Messages of the invalidation channel, on which the scripts publish what they change where the
//! server does not push.
//!
//! A message is its sender's name, a bar, and one of: the name in Redis that was changed, a prefix
//! that was cleared, or a number that a process sends to itself as a sign of life.

use std::sync::Arc;

use deadpool_redis::redis::{RedisWrite, ToRedisArgs};
use larder_core::Token;

const PREFIX: &str = "larder:prefix:";
const BEAT: &str = "larder:beat:";

/// How a script publishes what it changes: over the channel where the server pushes nothing, else
/// not at all.
///
/// As arguments of a script: the channel, empty for none, and the sender.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    channel: Arc<str>,
    /// With the bar that ends it.
    sender: Arc<str>,
}

/// A message as a subscriber reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Another process changed the key with this name in Redis.
    Changed(&'a str),
    /// Another process cleared every key that begins so.
    Cleared(&'a str),
    /// This process sent itself this number.
    OwnBeat(u64),
    /// Nothing that concerns this process: its own change, another one's sign of life, or no
    /// message of larder.
    Other,
}

impl Publisher {
    /// Publishes on this channel, as a sender that no other process is.
    pub(crate) fn new(channel: String) -> Self {
        // A token is unique, and its alphabet has no bar.
        Self {
            channel: channel.into(),
            sender: format!("{}|", Token::new().as_str()).into(),
        }
    }

    /// Publishes nothing.
    pub(crate) fn silent() -> Self {
        Self {
            channel: "".into(),
            sender: "".into(),
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.channel.is_empty()
    }

    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Says that every key that begins with `prefix` was invalidated.
    pub(crate) fn prefix_message(&self, prefix: &str) -> String {
        format!("{}{PREFIX}{prefix}", self.sender)
    }

    /// Says to this process itself that the channel lives.
    pub(crate) fn beat_message(&self, beat: u64) -> String {
        format!("{}{BEAT}{beat}", self.sender)
    }

    /// Reads a message. What this process changed itself, it knows.
    pub(crate) fn parse<'a>(&self, message: &'a str) -> Message<'a> {
        let Some((sender, said)) = message.split_once('|') else {
            return Message::Other;
        };
        let beat = said.strip_prefix(BEAT);
        if self.sender.strip_suffix('|') == Some(sender) {
            return beat
                .and_then(|beat| beat.parse().ok())
                .map_or(Message::Other, Message::OwnBeat);
        }
        match (said.strip_prefix(PREFIX), beat) {
            (Some(prefix), _) => Message::Cleared(prefix),
            (None, Some(_)) => Message::Other,
            (None, None) => Message::Changed(said),
        }
    }
}

/// The number of the beat after this one. Another program may have sent the largest one in this
/// process's name.
pub(crate) fn next_beat(beat: u64) -> u64 {
    beat.wrapping_add(1)
}

impl ToRedisArgs for Publisher {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        out.write_arg(self.channel.as_bytes());
        out.write_arg(self.sender.as_bytes());
    }

    fn num_of_args(&self) -> usize {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_others_are_read_and_own_ones_are_known() {
        let [one, other] = ["c", "c"].map(|channel| Publisher::new(channel.to_owned()));
        let changed = format!("{}user:42", one.sender);
        assert_eq!(other.parse(&changed), Message::Changed("user:42"));
        assert_eq!(one.parse(&changed), Message::Other);
        assert_eq!(
            other.parse(&one.prefix_message("user:")),
            Message::Cleared("user:")
        );
        assert_eq!(one.parse(&one.prefix_message("user:")), Message::Other);
        assert_eq!(one.parse(&one.beat_message(7)), Message::OwnBeat(7));
        assert_eq!(other.parse(&one.beat_message(7)), Message::Other);
        assert_eq!(one.parse("no message of larder"), Message::Other);
    }

    #[test]
    fn beat_that_another_program_sends_in_our_name_has_a_next_one() {
        let own = Publisher::new("c".to_owned());
        assert_eq!(
            own.parse(&own.beat_message(u64::MAX)),
            Message::OwnBeat(u64::MAX)
        );
        assert_ne!(next_beat(u64::MAX), u64::MAX);
    }
}
