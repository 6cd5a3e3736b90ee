use std::time::Duration;

use larder_testkit::{RedisServer, Reply};
use tokio::task::block_in_place;

use crate::{Problem, cell::RedisState, member::Member};

/// The servers' password that the members know.
pub(crate) const PASSWORD: &str = "first";
const OTHER_PASSWORD: &str = "second";
/// The delay of a slow server's replies.
pub(crate) const DELAY: Duration = Duration::from_millis(60);

/// Breaks Redis.
pub(crate) async fn begin(
    state: RedisState,
    server: &mut RedisServer,
    members: &[std::sync::Arc<Member>],
) -> Result<(), Problem> {
    let proxies = || members.iter().map(|member| &member.proxy);
    match state {
        RedisState::Fast => {}
        RedisState::Slow => proxies().for_each(|proxy| proxy.delay(DELAY)),
        RedisState::Hanging => block_in_place(|| server.pause())?,
        RedisState::Refusing => proxies().for_each(|proxy| {
            proxy.refuse(true);
            proxy.cut();
        }),
        RedisState::Killed => block_in_place(|| server.kill()),
        RedisState::Restarted => restart(server)?,
        // Its master does not exist, and it goes on serving its data.
        RedisState::ReadOnly => tell(server, &["REPLICAOF", "127.0.0.1", "1"]).await?,
        RedisState::OutOfMemory => {
            tell(
                server,
                &[
                    "CONFIG",
                    "SET",
                    "maxmemory-policy",
                    "noeviction",
                    "maxmemory",
                    "1",
                ],
            )
            .await?;
        }
        RedisState::WrongPassword => {
            proxies().for_each(|proxy| proxy.refuse(true));
            restart(server)?;
            tell(server, &["CONFIG", "SET", "requirepass", OTHER_PASSWORD]).await?;
            proxies().for_each(|proxy| proxy.refuse(false));
        }
    }
    Ok(())
}

/// Heals Redis.
pub(crate) async fn end(
    state: RedisState,
    server: &mut RedisServer,
    members: &[std::sync::Arc<Member>],
) -> Result<(), Problem> {
    let proxies = || members.iter().map(|member| &member.proxy);
    match state {
        RedisState::Fast | RedisState::Restarted => {}
        RedisState::Slow => proxies().for_each(|proxy| proxy.delay(Duration::ZERO)),
        RedisState::Hanging => block_in_place(|| server.resume())?,
        RedisState::Refusing => proxies().for_each(|proxy| proxy.refuse(false)),
        RedisState::Killed => restart(server)?,
        RedisState::ReadOnly => tell(server, &["REPLICAOF", "NO", "ONE"]).await?,
        RedisState::OutOfMemory => tell(server, &["CONFIG", "SET", "maxmemory", "0"]).await?,
        RedisState::WrongPassword => {
            let mut client =
                larder_testkit::Client::connect(&server.addr(), Some(OTHER_PASSWORD)).await?;
            accepted(
                client
                    .command(&["CONFIG", "SET", "requirepass", PASSWORD])
                    .await?,
            )?;
        }
    }
    Ok(())
}

/// Starts a server, without blocking the callers of other cells while its process starts.
pub(crate) fn start() -> Result<RedisServer, Problem> {
    let start = RedisServer::builder().password(PASSWORD).start();
    Ok(block_in_place(|| {
        tokio::runtime::Handle::current().block_on(start)
    })?)
}

fn restart(server: &mut RedisServer) -> Result<(), Problem> {
    Ok(block_in_place(|| {
        tokio::runtime::Handle::current().block_on(server.restart())
    })?)
}

async fn tell(server: &RedisServer, words: &[&str]) -> Result<(), Problem> {
    accepted(server.command(words).await?)
}

fn accepted(reply: Reply) -> Result<(), Problem> {
    match reply {
        Reply::Error(refused) => Err(refused.into()),
        _ => Ok(()),
    }
}
