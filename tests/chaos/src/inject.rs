//! Faults as they are made: by the proxies, by the server, by signals.

use std::{io, time::Duration};

use larder_testkit::{Direction, RedisServer};
use tokio::process::Command;

use crate::{
    Problem,
    clock::now,
    faults::{Fault, FaultKind},
    member::Member,
};

/// Has something go wrong, until it is over. `foreign` is held while the server evicts: what a
/// foreign program has written and the server evicts again is not noticed by a load under way.
pub(crate) async fn inject(
    kind: FaultKind,
    server: &mut RedisServer,
    members: &[Member],
    random: &mut fastrand::Rng,
    foreign: &tokio::sync::Mutex<()>,
) -> Result<Fault, Problem> {
    let node = kind.hits_a_node().then(|| random.usize(0..members.len()));
    let length = Duration::from_millis(random.u64(100..1_500));
    let quiet = if kind == FaultKind::Eviction {
        Some(foreign.lock().await)
    } else {
        None
    };
    if quiet.is_some() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let start = now();
    if let Some(member) = node.and_then(|node| members.get(node)) {
        hit(kind, member, length, random).await?;
    } else {
        disturb(kind, server, length).await?;
    }
    drop(quiet);
    Ok(Fault {
        kind,
        node,
        start,
        end: now(),
    })
}

async fn hit(
    kind: FaultKind,
    member: &Member,
    length: Duration,
    random: &mut fastrand::Rng,
) -> io::Result<()> {
    let proxy = &member.proxy;
    match kind {
        FaultKind::Refusal => {
            proxy.refuse(true);
            proxy.cut();
            tokio::time::sleep(length).await;
            proxy.refuse(false);
        }
        FaultKind::Stall => {
            let direction = if random.bool() {
                Direction::ToServer
            } else {
                Direction::ToClient
            };
            proxy.stall(direction, true);
            tokio::time::sleep(length).await;
            proxy.stall(direction, false);
        }
        FaultKind::Deafness => {
            proxy.deafen(true);
            // A channel that hears again before it was probed cannot be found out.
            tokio::time::sleep(Duration::from_millis(700) + length / 2).await;
            proxy.deafen(false);
        }
        FaultKind::Stop => {
            signal(member.pid, "-STOP").await?;
            tokio::time::sleep(Duration::from_millis(1_000) + length / 2).await;
            signal(member.pid, "-CONT").await?;
        }
        _ => proxy.cut(),
    }
    Ok(())
}

async fn disturb(
    kind: FaultKind,
    server: &mut RedisServer,
    length: Duration,
) -> Result<(), Problem> {
    match kind {
        FaultKind::Kill => {
            server
                .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
                .await?;
        }
        FaultKind::Flush => {
            server.command(&["FLUSHALL"]).await?;
        }
        FaultKind::Restart => {
            server.kill();
            tokio::time::sleep(length / 2).await;
            server.restart().await?;
        }
        _ => evict(server, length).await?,
    }
    Ok(())
}

/// Gives the server less memory than it uses, with enough beside our keys that not all of them go.
async fn evict(server: &RedisServer, length: Duration) -> Result<(), Problem> {
    const BALLAST: usize = 400;
    let mut client = server.client().await?;
    let padding = "x".repeat(2_000);
    for n in 0..BALLAST {
        client
            .command(&["SET", &format!("ballast:{n}"), &padding])
            .await?;
    }
    let memory = client
        .command(&["INFO", "memory"])
        .await?
        .text()
        .unwrap_or_default();
    let used = memory
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:")?.parse::<usize>().ok());
    let allowed = used
        .ok_or("the server does not say how much memory it uses")?
        .saturating_sub(300_000);
    client
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"])
        .await?;
    client
        .command(&["CONFIG", "SET", "maxmemory", &allowed.to_string()])
        .await?;
    tokio::time::sleep(length).await;
    client.command(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    for n in 0..BALLAST {
        client.command(&["UNLINK", &format!("ballast:{n}")]).await?;
    }
    Ok(())
}

async fn signal(pid: u32, signal: &str) -> io::Result<()> {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .await?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("process {pid} is gone")))
    }
}
