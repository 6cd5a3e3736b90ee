//! Faults as they are made: by the proxies, by the server, by signals.

use std::{io, time::Duration};

use larder_testkit::{Direction, RedisServer};
use tokio::{process::Command, time::timeout};

use crate::{
    Problem,
    clock::now,
    faults::{Fault, FaultKind},
    losses,
    scene::Scene,
    told::lock,
};

/// 500 ms: a process writes more often.
const PATIENCE: Duration = Duration::from_millis(500);

impl Scene<'_> {
    /// Has something go wrong, until it is over, and takes it down.
    pub(crate) async fn inject(&mut self, kind: FaultKind) -> Result<(), Problem> {
        let fault = if kind.hits_a_node() {
            self.hit(kind).await?
        } else if kind.loses_data() {
            let (start, end) = losses::lose(kind, self).await?;
            self.losses.send_modify(|losses| *losses += 1);
            Fault {
                kind,
                node: None,
                start,
                end,
            }
        } else {
            self.disturb(kind).await?
        };
        lock(&self.told).history.faults.push(fault);
        // Between a snapshot and the restart from it there may be other faults.
        if self.random.u8(0..4) == 0 {
            let masters = self.servers.masters().await?;
            let master = self.random.choice(masters).ok_or("there is no master")?;
            losses::save(&self.servers.all()[master]).await?;
        }
        Ok(())
    }

    async fn hit(&mut self, kind: FaultKind) -> Result<Fault, Problem> {
        let index = self.random.usize(0..self.members.len());
        let (length, node) = (self.length(), self.members[index].node);
        let mut start = now();
        match kind {
            FaultKind::Death => start = self.kill_member(index, length).await?,
            FaultKind::Stop => {
                let pid = self.members[index].pid;
                signal(pid, "-STOP").await?;
                tokio::time::sleep(Duration::from_millis(1_000) + length / 2).await;
                signal(pid, "-CONT").await?;
            }
            _ => self.disconnect(kind, index, length).await,
        }
        Ok(Fault {
            kind,
            node: Some(node),
            start,
            end: now(),
        })
    }

    async fn disconnect(&mut self, kind: FaultKind, index: usize, length: Duration) {
        let direction = if self.random.bool() {
            Direction::ToServer
        } else {
            Direction::ToClient
        };
        let proxies = &self.members[index].proxies;
        match kind {
            FaultKind::Refusal => {
                proxies.iter().for_each(|proxy| {
                    proxy.refuse(true);
                    proxy.cut();
                });
                tokio::time::sleep(length).await;
                proxies.iter().for_each(|proxy| proxy.refuse(false));
            }
            FaultKind::Stall => {
                let stall = |yes| proxies.iter().for_each(|proxy| proxy.stall(direction, yes));
                stall(true);
                tokio::time::sleep(length).await;
                stall(false);
            }
            FaultKind::Deafness => {
                proxies.iter().for_each(|proxy| proxy.deafen(true));
                // A channel that hears again before it was probed cannot be found out.
                tokio::time::sleep(Duration::from_millis(700) + length / 2).await;
                proxies.iter().for_each(|proxy| proxy.deafen(false));
            }
            _ => proxies.iter().for_each(larder_testkit::Proxy::cut),
        }
    }

    /// Kills a process, half of the time in the midst of a write, and starts another one. Returns
    /// when the process died.
    async fn kill_member(&mut self, index: usize, length: Duration) -> Result<u64, Problem> {
        let (node, seed) = (self.next, self.random.u64(..));
        let is_writing = self.random.bool();
        let member = &mut self.members[index];
        if is_writing {
            let _ = timeout(PATIENCE, self.database.wait_for_write(member.node)).await;
        }
        member.kill().await?;
        let death = now();
        lock(&self.told).history.deaths.insert(member.node, death);
        tokio::time::sleep(length / 2).await;
        self.next += 1;
        let told = self.told.clone();
        member
            .replace(node, &self.common, &self.servers, seed, told)
            .await?;
        Ok(death)
    }

    async fn disturb(&mut self, kind: FaultKind) -> Result<Fault, Problem> {
        let length = self.length();
        let quiet = if kind == FaultKind::Eviction {
            Some(self.quiet.clone().lock_owned().await)
        } else {
            None
        };
        if quiet.is_some() {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let masters = self.servers.masters().await?;
        let one = self.random.choice(masters).ok_or("there is no master")?;
        let server = &mut self.servers.all_mut()[one];
        let start = now();
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
                losses::remove_snapshot(server)?;
                tokio::time::sleep(length / 2).await;
                server.restart().await?;
                losses::is_up(server).await?;
            }
            _ => evict(server, length).await?,
        }
        drop(quiet);
        Ok(Fault {
            kind,
            node: None,
            start,
            end: now(),
        })
    }
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
