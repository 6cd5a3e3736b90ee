use std::{io, time::Duration};

use tokio::time::Instant;

use crate::{RedisServer, Reply, ServerError, server::RedisServerBuilder};

/// A private cluster of masters without replicas, which share the slots evenly. It stops when this is dropped.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, in the order of their slots; then one that has none, if it was asked for.
    pub servers: Vec<RedisServer>,
    masters: u16,
}

const SLOTS: u16 = 16_384;
/// So many make a cluster unless a test says otherwise.
const MASTERS: u16 = 3;
/// How long a node may be silent, in ms. Less would let a busy machine's nodes take each other for dead.
const NODE_TIMEOUT: &str = "2000";
const BOUND: Duration = Duration::from_secs(30);

impl RedisCluster {
    /// Starts three masters, and waits until all of them say that the cluster works.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running then.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_as(&RedisServer::builder(), MASTERS, 0).await
    }

    /// Starts a cluster with so many masters that have slots, and so many that have none, each with these options.
    ///
    /// # Errors
    /// [`ServerError`]; nothing is left running then.
    pub async fn start_as(
        options: &RedisServerBuilder,
        masters: u16,
        idle: u16,
    ) -> Result<Self, ServerError> {
        let options = options.clone().cluster().args(&["--cluster-node-timeout", NODE_TIMEOUT]);
        let mut servers = Vec::new();
        for _ in 0..masters + idle {
            servers.push(options.clone().start().await?);
        }
        let cluster = Self { servers, masters };
        for (number, server) in (0..).zip(&cluster.servers) {
            // Else they would have to find out whose number is whose.
            expect(server, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await?;
            if number < masters {
                let (first, last) = (cluster.first_slot(number), cluster.first_slot(number + 1) - 1);
                let slots = [first.to_string(), last.to_string()];
                expect(server, &["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]).await?;
            }
            let (host, port, bus) = cluster.servers[0].cluster_address();
            if number > 0 {
                let ports = [port.to_string(), bus.to_string()];
                expect(server, &["CLUSTER", "MEET", host, &ports[0], &ports[1]]).await?;
            }
        }
        cluster.settle().await?;
        Ok(cluster)
    }

    fn first_slot(&self, master: u16) -> u16 {
        let slots = u32::from(master) * u32::from(SLOTS) / u32::from(self.masters);
        u16::try_from(slots).unwrap_or(SLOTS)
    }

    /// Waits until every server knows all others, and says that the cluster works.
    ///
    /// # Errors
    /// What the connection said, or that they do not agree.
    pub async fn settle(&self) -> io::Result<()> {
        let known = format!("cluster_known_nodes:{}\r", self.servers.len());
        self.agree("the cluster does not work", &["CLUSTER", "INFO"], |info| {
            info.contains("cluster_state:ok\r") && info.contains(&known)
        })
        .await?;
        // A node learns from the others by which address it is known.
        let named =
            |nodes: &str| nodes.lines().all(|line| !line.contains(" :") && !line.contains("handshake"));
        self.agree("the nodes do not know each other", &["CLUSTER", "NODES"], named).await
    }

    async fn agree(&self, what: &str, words: &[&str], holds: impl Fn(&str) -> bool) -> io::Result<()> {
        let give_up = Instant::now() + BOUND;
        for server in &self.servers {
            loop {
                let said = server.command(words).await?.text().unwrap_or_default();
                if holds(&said) {
                    break;
                }
                if Instant::now() > give_up {
                    return Err(io::Error::other(format!("{what}: {said}")));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(())
    }

    /// The address of one of its servers, for a cache.
    pub fn url(&self) -> String {
        self.servers[0].url()
    }

    /// The number of the server that has a key.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn home(&self, key: &str) -> io::Result<usize> {
        for (number, server) in self.servers.iter().enumerate() {
            if !matches!(server.command(&["EXISTS", key]).await?, Reply::Error(_)) {
                return Ok(number);
            }
        }
        Err(io::Error::other("no server has the key's slot"))
    }

    /// Does one thing as a foreign program, at the server that has the key, which is the second word.
    ///
    /// # Errors
    /// What the connection said; a refusal is a reply.
    pub async fn command(&self, words: &[&str]) -> io::Result<Reply> {
        let home = self.home(words.get(1).copied().unwrap_or_default()).await?;
        self.servers[home].command(words).await
    }

    /// Has all servers tell clients that one of them is at this port of loopback, as behind a proxy.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn announce(&self, server: usize, port: u16) -> io::Result<()> {
        expect(&self.servers[server], &["CONFIG", "SET", "cluster-announce-port", &port.to_string()]).await?;
        let told = format!(":{port}@");
        self.agree("the new address is not known", &["CLUSTER", "NODES"], |nodes| nodes.contains(&told)).await
    }

    /// Begins to move a key's slot to another server, with all keys in it: the cluster is left as it is in between.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn begin_move(&self, key: &str, to: usize) -> io::Result<()> {
        let (from, slot) = (self.home(key).await?, self.slot(key).await?);
        let ids = [self.id(from).await?, self.id(to).await?];
        expect(&self.servers[to], &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await?;
        expect(&self.servers[from], &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await?;
        let (host, port, _) = self.servers[to].cluster_address();
        let port = port.to_string();
        while let Reply::Array(keys) =
            self.servers[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await?
            && !keys.is_empty()
        {
            for key in keys.iter().filter_map(Reply::text) {
                expect(&self.servers[from], &["MIGRATE", host, &port, &key, "0", "5000"]).await?;
            }
        }
        Ok(())
    }

    /// Moves a key's slot to another server, with all keys in it, and tells every server.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn move_slot(&self, key: &str, to: usize) -> io::Result<()> {
        self.begin_move(key, to).await?;
        self.end_move(key, to).await
    }

    /// Ends a move that was begun, and tells every server.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn end_move(&self, key: &str, to: usize) -> io::Result<()> {
        let slot = self.slot(key).await?;
        let id = self.id(to).await?;
        for server in [&self.servers[to]].into_iter().chain(&self.servers) {
            expect(server, &["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await?;
        }
        Ok(())
    }

    async fn slot(&self, key: &str) -> io::Result<String> {
        match self.servers[0].command(&["CLUSTER", "KEYSLOT", key]).await? {
            Reply::Integer(slot) => Ok(slot.to_string()),
            other => Err(io::Error::other(format!("not a slot: {other:?}"))),
        }
    }

    async fn id(&self, server: usize) -> io::Result<String> {
        Ok(self.servers[server].command(&["CLUSTER", "MYID"]).await?.text().unwrap_or_default())
    }
}

/// Does one thing that must not be refused.
async fn expect(server: &RedisServer, words: &[&str]) -> io::Result<()> {
    match server.command(words).await? {
        Reply::Error(refused) => Err(io::Error::other(format!("{words:?}: {refused}"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn cluster_shares_its_slots_and_moves_them() {
        let cluster = RedisCluster::start_as(&RedisServer::builder(), 2, 1).await.unwrap();
        let mut homes = Vec::new();
        for n in 0..20 {
            let key = format!("k{n}");
            cluster.command(&["SET", &key, "v"]).await.unwrap();
            homes.push(cluster.home(&key).await.unwrap());
        }
        homes.sort_unstable();
        homes.dedup();
        assert_eq!(homes, [0, 1]);
        cluster.move_slot("k1", 2).await.unwrap();
        assert_eq!(cluster.home("k1").await.unwrap(), 2);
        assert_eq!(cluster.servers[2].command(&["GET", "k1"]).await.unwrap().text().as_deref(), Some("v"));
    }
}
