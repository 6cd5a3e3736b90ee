//! The servers of a run, and the addresses at which programs find them.

use std::sync::{Arc, Mutex, PoisonError};

use larder_testkit::{RedisCluster, RedisSentinels, RedisServer, RedisServerBuilder};

use crate::{
    Problem,
    asking::{expect, until},
    faults::Topology,
    keys::Namespace,
};

/// The servers of a run.
#[derive(Debug)]
pub(crate) enum Servers {
    /// One server.
    Single(RedisServer),
    /// Three masters, and then a replica of each.
    Cluster(RedisCluster),
    /// A master and its replica.
    Sentinels(RedisSentinels),
}

/// Masters of a cluster, each with one replica.
const MASTERS: u16 = 3;

/// Where a program that knows nothing of larder finds the servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(Arc<Mutex<Vec<String>>>);

impl Places {
    pub(crate) fn get(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set(&self, places: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }
}

/// The options of every server: one of the two users may not use tracking, replicas come fast, and
/// a log is not flushed.
pub(crate) fn options() -> RedisServerBuilder {
    let (mut south, right) = (vec!["--user", "south", "on", ">south"], "-client|tracking");
    south.extend(["~*", "&*", "+@all", right]);
    RedisServer::builder().args(&south).args(&[
        "--repl-diskless-sync-delay",
        "0",
        "--appendfsync",
        "no",
    ])
}

impl Servers {
    pub(crate) async fn start(topology: Topology) -> Result<Self, Problem> {
        Ok(match topology {
            Topology::Single => Self::Single(options().start().await?),
            Topology::Cluster => Self::Cluster(start_cluster().await?),
            Topology::Sentinel => {
                Self::Sentinels(RedisSentinels::start_as(&options(), None).await?)
            }
        })
    }

    pub(crate) fn all(&self) -> &[RedisServer] {
        match self {
            Self::Single(server) => std::slice::from_ref(server),
            Self::Cluster(cluster) => &cluster.servers,
            Self::Sentinels(sentinels) => &sentinels.servers,
        }
    }

    pub(crate) fn all_mut(&mut self) -> &mut [RedisServer] {
        match self {
            Self::Single(server) => std::slice::from_mut(server),
            Self::Cluster(cluster) => &mut cluster.servers,
            Self::Sentinels(sentinels) => &mut sentinels.servers,
        }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.all().iter().map(RedisServer::addr).collect()
    }

    /// The URL at which a process of the namespace finds the servers by these addresses.
    pub(crate) fn url(&self, namespace: Namespace, addresses: &[String]) -> String {
        let (scheme, place) = match self {
            Self::Sentinels(sentinels) => {
                let url = sentinels.url();
                let place = url.trim_start_matches("redis+sentinel://");
                ("redis+sentinel", place.to_owned())
            }
            _ => ("redis", addresses.first().cloned().unwrap_or_default()),
        };
        format!("{scheme}://{}{place}", namespace.login())
    }

    /// The indexes of the masters.
    pub(crate) async fn masters(&self) -> Result<Vec<usize>, Problem> {
        let mut masters = Vec::new();
        for (index, server) in self.all().iter().enumerate() {
            let said = server.command(&["INFO", "replication"]).await?;
            if said.text().is_some_and(|said| said.contains("role:master")) {
                masters.push(index);
            }
        }
        Ok(masters)
    }
}

async fn start_cluster() -> Result<RedisCluster, Problem> {
    // The others go on without a master; and no replica takes its place before it is told to.
    let options = options()
        .args(&["--cluster-require-full-coverage", "no"])
        .args(&["--cluster-replica-no-failover", "yes"]);
    let cluster = RedisCluster::start_as(&options, MASTERS, MASTERS).await?;
    let (masters, replicas) = cluster.servers.split_at(usize::from(MASTERS));
    for (master, replica) in masters.iter().zip(replicas) {
        let id = master.command(&["CLUSTER", "MYID"]).await?;
        let id = id.text().unwrap_or_default();
        expect(replica, &["CLUSTER", "REPLICATE", &id]).await?;
        until(replica, "replication", "master_link_status:up").await?;
    }
    Ok(cluster)
}
