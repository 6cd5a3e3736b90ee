//! Losses of data: a server that comes back with the data of an earlier moment.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use larder_testkit::RedisServer;
use tokio::time::sleep;

use crate::{
    Problem,
    asking::{self, expect, until},
    clock::now,
    failovers,
    faults::FaultKind,
    scene::Scene,
    servers::{Servers, options},
};

/// Has a server lose the newest of its data, and returns when it was away.
pub(crate) async fn lose(kind: FaultKind, scene: &mut Scene<'_>) -> Result<(u64, u64), Problem> {
    let lag = Duration::from_millis(scene.random.u64(1..1_200));
    let away = Duration::from_millis(scene.random.u64(1..700));
    let is_in_place = scene.random.bool();
    let is_single = matches!(scene.servers, Servers::Single(_));
    let cut = scene.random.f64();
    let masters = scene.servers.masters().await?;
    let one = scene.random.choice(masters).ok_or("there is no master")?;
    match kind {
        FaultKind::Failover => failovers::fail_over(&mut scene.servers, one, lag, away).await,
        FaultKind::LostLog => {
            let server = &mut scene.servers.all_mut()[one];
            lose_end_of_log(server, lag, away, cut).await
        }
        FaultKind::Replica if is_in_place || !is_single => {
            let server = &mut scene.servers.all_mut()[one];
            restart_from_replica(server, lag, away).await
        }
        FaultKind::Replica => lead_to_replica(scene, lag, away).await,
        FaultKind::Move => move_to_replica(scene, lag).await,
        _ => {
            let server = &mut scene.servers.all_mut()[one];
            let is_old = cut < 0.4 && snapshot(server).is_file();
            if !is_old {
                save(server).await?;
                sleep(lag).await;
            }
            restart(server, away).await
        }
    }
}

async fn restart(server: &mut RedisServer, away: Duration) -> Result<(u64, u64), Problem> {
    let start = now();
    server.kill();
    sleep(away).await;
    server.restart().await?;
    is_up(server).await?;
    Ok((start, now()))
}

/// The server keeps a log of its commands, and loses as much of it as a machine that fails.
async fn lose_end_of_log(
    server: &mut RedisServer,
    lag: Duration,
    away: Duration,
    cut: f64,
) -> Result<(u64, u64), Problem> {
    expect(server, &["CONFIG", "SET", "appendonly", "yes"]).await?;
    until(server, "persistence", "aof_rewrite_in_progress:0").await?;
    until(server, "persistence", "aof_rewrite_scheduled:0").await?;
    let folder = server.folder().join("appendonlydir");
    let log = newest_log(&folder)?;
    let flushed = fs::metadata(&log)?.len();
    sleep(lag).await;
    let start = now();
    server.kill();
    let file = fs::OpenOptions::new().write(true).open(&log)?;
    let lost = (file.metadata()?.len() - flushed) as f64 * cut;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a file's length"
    )]
    file.set_len(file.metadata()?.len() - lost as u64)?;
    sleep(away).await;
    server
        .restart_with(&["--appendonly", "yes", "--aof-load-truncated", "yes"])
        .await?;
    is_up(server).await?;
    let end = now();
    expect(server, &["CONFIG", "SET", "appendonly", "no"]).await?;
    fs::remove_dir_all(folder)?;
    Ok((start, end))
}

/// The file to which a server appends its commands.
fn newest_log(folder: &Path) -> io::Result<PathBuf> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".incr.aof") {
            logs.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    let newest = logs.into_iter().max().map(|(_, path)| path);
    newest.ok_or_else(|| io::Error::other("the server keeps no log"))
}

/// The server starts again with the data of a replica that lagged.
async fn restart_from_replica(
    server: &mut RedisServer,
    lag: Duration,
    away: Duration,
) -> Result<(u64, u64), Problem> {
    let replica = lagging_replica(server).await?;
    save(&replica).await?;
    sleep(lag).await;
    let start = now();
    server.kill();
    fs::copy(snapshot(&replica), snapshot(server))?;
    sleep(away).await;
    server.restart().await?;
    is_up(server).await?;
    Ok((start, now()))
}

/// The server's address leads to a replica that lagged.
async fn lead_to_replica(
    scene: &mut Scene<'_>,
    lag: Duration,
    away: Duration,
) -> Result<(u64, u64), Problem> {
    let Servers::Single(server) = &mut scene.servers else {
        return Err("the address of one of several servers leads nowhere else".into());
    };
    let replica = lagging_replica(server).await?;
    sleep(lag).await;
    let start = now();
    server.kill();
    sleep(away).await;
    *server = replica;
    let address = server.addr();
    let proxies = scene.members.iter().flat_map(|member| &member.proxies);
    proxies.for_each(|proxy| proxy.lead_to(&address));
    scene.places.set(vec![address]);
    Ok((start, now()))
}

/// The server's address leads to a replica that lagged. The server before goes on, and each process
/// keeps one of its connections to it.
async fn move_to_replica(scene: &mut Scene<'_>, lag: Duration) -> Result<(u64, u64), Problem> {
    let Servers::Single(server) = &mut scene.servers else {
        return Err("the address of one of several servers leads nowhere else".into());
    };
    let replica = lagging_replica(server).await?;
    sleep(lag).await;
    let (start, address) = (now(), replica.addr());
    scene.left = Some(std::mem::replace(server, replica));
    for proxy in scene.members.iter().flat_map(|member| &member.proxies) {
        proxy.lead_to(&address);
        proxy.cut_all_but_one(scene.random.usize(..)).await;
    }
    scene.places.set(vec![address]);
    Ok((start, now()))
}

/// A replica that follows the server no more.
async fn lagging_replica(server: &RedisServer) -> Result<RedisServer, Problem> {
    let replica = options().start().await?;
    let address = server.addr();
    let (host, port) = address.split_once(':').unwrap_or_default();
    expect(&replica, &["REPLICAOF", host, port]).await?;
    until(&replica, "replication", "master_link_status:up").await?;
    expect(&replica, &["REPLICAOF", "NO", "ONE"]).await?;
    Ok(replica)
}

/// Has a server write a snapshot, from which it starts again.
pub(crate) async fn save(server: &RedisServer) -> Result<(), Problem> {
    until(server, "persistence", "rdb_bgsave_in_progress:0").await?; // a replica may be copying
    expect(server, &["SAVE"]).await
}

/// Lets a server start empty.
pub(crate) fn remove_snapshot(server: &RedisServer) -> io::Result<()> {
    match fs::remove_file(snapshot(server)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn snapshot(server: &RedisServer) -> PathBuf {
    server.folder().join("dump.rdb")
}

/// Waits until a server that was started again serves its keys. In a cluster that takes seconds.
pub(crate) async fn is_up(server: &RedisServer) -> Result<(), Problem> {
    until(server, "persistence", "loading:0").await?;
    asking::told(server, &["CLUSTER", "INFO"], |said| {
        said.contains("cluster_state:ok") || said.contains("support disabled")
    })
    .await
}
