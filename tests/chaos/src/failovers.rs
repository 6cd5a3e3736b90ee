//! Failovers to a replica that lagged.

use std::{io, time::Duration};

use larder_testkit::{RedisCluster, RedisSentinels, RedisServer, Reply};
use tokio::time::{Instant, sleep};

use crate::{
    Problem,
    asking::{expect, told, until},
    clock::now,
    servers::Servers,
};

/// Kills a master whose replica lags, and returns when the replica is the master.
pub(crate) async fn fail_over(
    servers: &mut Servers,
    master: usize,
    lag: Duration,
    away: Duration,
) -> Result<(u64, u64), Problem> {
    match servers {
        Servers::Cluster(cluster) => of_cluster(cluster, master, lag, away).await,
        Servers::Sentinels(sentinels) => of_sentinels(sentinels, lag, away).await,
        Servers::Single(_) => Err("a single server has no replica".into()),
    }
}

async fn of_cluster(
    cluster: &mut RedisCluster,
    master: usize,
    lag: Duration,
    away: Duration,
) -> Result<(u64, u64), Problem> {
    let replica = replica_of(&cluster.servers, master).await?;
    hold_back(&cluster.servers[master], lag).await?;
    let start = now();
    cluster.servers[master].kill();
    sleep(away).await;
    let (old, new) = (master, &cluster.servers[replica]);
    expect(new, &["CLUSTER", "FAILOVER", "TAKEOVER"]).await?;
    until(new, "replication", "role:master").await?;
    cluster.servers[old].restart().await?;
    // The others have to hear of the new master; and the old one must not take writes.
    until(&cluster.servers[old], "replication", "role:slave").await?;
    for server in &cluster.servers {
        let port = cluster.servers[replica].addr();
        told(server, &["CLUSTER", "SLOTS"], |_| true).await?;
        told(server, &["CLUSTER", "NODES"], |nodes| {
            nodes
                .lines()
                .any(|line| line.contains(&port) && line.contains("master"))
        })
        .await?;
    }
    let end = now();
    until(
        &cluster.servers[old],
        "replication",
        "master_link_status:up",
    )
    .await?;
    Ok((start, end))
}

/// The index of the replica of a master, once it follows.
async fn replica_of(servers: &[RedisServer], master: usize) -> Result<usize, Problem> {
    let address = servers[master].addr();
    let port = address.rsplit(':').next().unwrap_or_default();
    for (index, server) in servers.iter().enumerate() {
        let said = server.command(&["INFO", "replication"]).await?;
        let line = format!("master_port:{port}");
        if said
            .text()
            .is_some_and(|said| said.lines().any(|said| said == line))
        {
            until(server, "replication", "master_link_status:up").await?;
            return Ok(index);
        }
    }
    Err("the master has no replica".into())
}

async fn of_sentinels(
    sentinels: &mut RedisSentinels,
    lag: Duration,
    away: Duration,
) -> Result<(u64, u64), Problem> {
    let old = sentinels.master().await?;
    let new = 1 - old;
    until(
        &sentinels.servers[new],
        "replication",
        "master_link_status:up",
    )
    .await?;
    hold_back(&sentinels.servers[old], lag).await?;
    let start = now();
    sentinels.servers[old].kill();
    sleep(away).await;
    // Sentinels that do not know of the replica yet refuse; some seconds later they act unasked.
    let give_up = Instant::now() + Duration::from_secs(2);
    while sentinels.fail_over().await.is_err() && Instant::now() < give_up {
        sleep(Duration::from_millis(50)).await;
    }
    sentinels.switched_from(old).await?;
    until(&sentinels.servers[new], "replication", "role:master").await?;
    let end = now();
    let address = sentinels.servers[new].addr();
    let (host, port) = address.split_once(':').unwrap_or_default();
    let server = &mut sentinels.servers[old];
    server.restart_with(&["--replicaof", host, port]).await?;
    until(server, "replication", "master_link_status:up").await?;
    Ok((start, end))
}

/// Keeps the replicas of a master from following it.
async fn hold_back(master: &RedisServer, lag: Duration) -> io::Result<()> {
    let mut client = master.client().await?;
    let end = Instant::now() + lag;
    while Instant::now() < end {
        let killed = client
            .command(&["CLIENT", "KILL", "TYPE", "replica"])
            .await?;
        if let Reply::Error(refused) = killed {
            return Err(io::Error::other(refused));
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
