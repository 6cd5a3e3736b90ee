//! Questions to a server.

use std::time::Duration;

use larder_testkit::{RedisServer, Reply};
use tokio::time::{Instant, sleep};

use crate::Problem;

/// A server that does not come to a state within this time has failed.
const BOUND: Duration = Duration::from_secs(30);

/// Runs a command whose refusal is an error.
pub(crate) async fn expect(server: &RedisServer, words: &[&str]) -> Result<(), Problem> {
    match server.command(words).await? {
        Reply::Error(refused) => Err(format!("{words:?}: {refused}").into()),
        _ => Ok(()),
    }
}

/// Waits until a section of the server's own figures has a line.
pub(crate) async fn until(server: &RedisServer, section: &str, line: &str) -> Result<(), Problem> {
    let has = |said: &str| said.lines().any(|said| said == line);
    told(server, &["INFO", section], has).await
}

/// Waits until the answer to a command, or its refusal, holds.
pub(crate) async fn told(
    server: &RedisServer,
    words: &[&str],
    holds: impl Fn(&str) -> bool,
) -> Result<(), Problem> {
    let give_up = Instant::now() + BOUND;
    loop {
        let said = server.command(words).await?.text().unwrap_or_default();
        if holds(&said) {
            return Ok(());
        }
        if Instant::now() > give_up {
            return Err(format!("{words:?} does not come to what it should: {said}").into());
        }
        sleep(Duration::from_millis(5)).await;
    }
}
