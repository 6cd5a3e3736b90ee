//! Commands that read without having the server track what they read.

use deadpool_redis::redis::{Cmd, Pipeline, RedisResult, Value, cmd};

use crate::command::target::Target;

/// The keys of a command that the server is to track for the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracks {
    /// All, also those without a value.
    All,
    /// Those that have a value.
    Found,
    /// None, on a server that lets a connection exempt a command.
    None,
}

/// Exempts the next command from tracking, also a whole script.
pub(crate) fn exemption() -> Cmd {
    cmd("CLIENT").arg("CACHING").arg("NO").take()
}

/// Sends commands in one round trip that the server is not to track.
// P33 only-kept-is-tracked
pub(crate) async fn send_untracked(on: &mut Target, commands: Pipeline) -> RedisResult<Vec<Value>> {
    let (commands, each) = if on.exempts {
        let mut exempted = Pipeline::with_capacity(2 * commands.len());
        for command in commands.cmd_iter() {
            exempted.add_command(exemption());
            exempted.add_command(command.clone());
        }
        (exempted, 2)
    } else {
        (commands, 1)
    };
    let replies = on
        .connection
        .send_packed_commands(&commands, 0, commands.len())
        .await?;
    // The reply to an exemption says nothing: without it, the server tracks too much.
    Ok(replies.into_iter().skip(each - 1).step_by(each).collect())
}
