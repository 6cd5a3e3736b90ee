use std::{io, time::Duration};

use tokio::time::Instant;

use super::{
    client::Reply,
    program::{ServerError, is_before_7},
    server::{RedisServer, RedisServerBuilder},
};

/// A private cluster of masters without replicas, which share the slots evenly. Dropping it stops
/// it.
///
/// ```no_run
/// use larder_testkit::RedisCluster;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cluster = RedisCluster::start().await?;
/// let home = cluster.home("user:42").await?;
/// cluster.move_slot("user:42", (home + 1) % 3).await?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters in the order of their slots, then those without slots.
    pub servers: Vec<RedisServer>,
    masters: u16,
}

const SLOTS: u16 = 16_384;
/// The masters of a cluster that [`RedisCluster::start`] starts.
const MASTERS: u16 = 3;
/// 2,000 ms: how long a node may be silent. With less, the nodes of a busy machine take each other
/// for dead.
const NODE_TIMEOUT: &str = "2000";
const BOUND: Duration = Duration::from_secs(30);

impl RedisCluster {
    /// Starts three masters, and waits until each reports a working cluster.
    ///
    /// # Errors
    /// [`ServerError`]; then no process is left running.
    pub async fn start() -> Result<Self, ServerError> {
        Self::start_as(&RedisServer::builder(), MASTERS, 0).await
    }

    /// Starts a cluster of `masters` with slots and `idle` ones without, all with the same options.
    ///
    /// # Errors
    /// [`ServerError`]; then no process is left running.
    pub async fn start_as(
        options: &RedisServerBuilder,
        masters: u16,
        idle: u16,
    ) -> Result<Self, ServerError> {
        let options = options
            .clone()
            .cluster()
            .args(&["--cluster-node-timeout", NODE_TIMEOUT]);
        let mut servers = Vec::new();
        for _ in 0..masters + idle {
            servers.push(options.clone().start().await?);
        }
        let cluster = Self { servers, masters };
        for (number, server) in (0..).zip(&cluster.servers) {
            // Distinct epochs, so that the nodes need not agree on them first.
            expect(
                server,
                &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()],
            )
            .await?;
            if number < masters {
                let (first, last) = (
                    cluster.first_slot(number),
                    cluster.first_slot(number + 1) - 1,
                );
                // Not as a range, which Redis before 7.0 does not know.
                let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
                let slots = slots.iter().map(String::as_str);
                let words: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots).collect();
                expect(server, &words).await?;
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

    /// Waits until every server knows all others and reports a working cluster, at most 30 s.
    ///
    /// # Errors
    /// The connection's error, or that the servers do not agree in time.
    pub async fn settle(&self) -> io::Result<()> {
        let known = format!("cluster_known_nodes:{}\r", self.servers.len());
        self.agree("the cluster does not work", &["CLUSTER", "INFO"], |info| {
            info.contains("cluster_state:ok\r") && info.contains(&known)
        })
        .await?;
        // A node learns from the others by which address it is known.
        let named = |nodes: &str| {
            nodes
                .lines()
                .all(|line| !line.contains(" :") && !line.contains("handshake"))
        };
        self.agree(
            "the nodes do not know each other",
            &["CLUSTER", "NODES"],
            named,
        )
        .await
    }

    async fn agree(
        &self,
        what: &str,
        words: &[&str],
        holds: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
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

    /// Returns the address of the first server as a URL.
    pub fn url(&self) -> String {
        self.servers[0].url()
    }

    /// Returns the index of the server that has a key's slot.
    ///
    /// # Errors
    /// The connection's error, or a server's refusal.
    pub async fn home(&self, key: &str) -> io::Result<usize> {
        for (number, server) in self.servers.iter().enumerate() {
            if !matches!(server.command(&["EXISTS", key]).await?, Reply::Error(_)) {
                return Ok(number);
            }
        }
        Err(io::Error::other("no server has the key's slot"))
    }

    /// Runs one command at the server that has the key, which is the second word.
    ///
    /// # Errors
    /// The connection's error. A refusal is no error: it is [`Reply::Error`].
    pub async fn command(&self, words: &[&str]) -> io::Result<Reply> {
        let home = self.home(words.get(1).copied().unwrap_or_default()).await?;
        self.servers[home].command(words).await
    }

    /// Makes all servers announce one of them at another port on loopback, such as a proxy's.
    ///
    /// # Errors
    /// The connection's error, or a server's refusal.
    pub async fn announce(&self, server: usize, port: u16) -> io::Result<()> {
        expect(
            &self.servers[server],
            &["CONFIG", "SET", "cluster-announce-port", &port.to_string()],
        )
        .await?;
        // Before Redis 7.0 the server itself goes on telling clients of its own port.
        let told = format!(":{port}@");
        let own = format!(":{}@", self.servers[server].port());
        let is_own = |nodes: &str| {
            let mut lines = nodes.lines();
            is_before_7() && lines.any(|line| line.contains("myself") && line.contains(&own))
        };
        self.agree(
            "the new address is not known",
            &["CLUSTER", "NODES"],
            |nodes| nodes.contains(&told) || is_own(nodes),
        )
        .await
    }

    /// Moves the keys of a slot to another server and leaves the slot between the two, as in the
    /// middle of a migration.
    ///
    /// # Errors
    /// The connection's error, or a server's refusal.
    pub async fn begin_move(&self, key: &str, to: usize) -> io::Result<()> {
        let (from, slot) = (self.home(key).await?, self.slot(key).await?);
        let ids = [self.id(from).await?, self.id(to).await?];
        expect(
            &self.servers[to],
            &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]],
        )
        .await?;
        expect(
            &self.servers[from],
            &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]],
        )
        .await?;
        let (host, port, _) = self.servers[to].cluster_address();
        let port = port.to_string();
        while let Reply::Array(keys) = self.servers[from]
            .command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])
            .await?
            && !keys.is_empty()
        {
            for key in keys.iter().filter_map(Reply::text) {
                expect(
                    &self.servers[from],
                    &["MIGRATE", host, &port, &key, "0", "5000"],
                )
                .await?;
            }
        }
        Ok(())
    }

    /// Moves a key's slot to another server, with all keys in it, and tells every server.
    ///
    /// # Errors
    /// The connection's error, or a server's refusal.
    pub async fn move_slot(&self, key: &str, to: usize) -> io::Result<()> {
        self.begin_move(key, to).await?;
        self.end_move(key, to).await
    }

    /// Ends a move that [`begin_move`](Self::begin_move) began, and tells every server.
    ///
    /// # Errors
    /// The connection's error, or a server's refusal.
    pub async fn end_move(&self, key: &str, to: usize) -> io::Result<()> {
        let slot = self.slot(key).await?;
        let id = self.id(to).await?;
        for server in [&self.servers[to]].into_iter().chain(&self.servers) {
            expect(server, &["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await?;
        }
        Ok(())
    }

    async fn slot(&self, key: &str) -> io::Result<String> {
        match self.servers[0]
            .command(&["CLUSTER", "KEYSLOT", key])
            .await?
        {
            Reply::Integer(slot) => Ok(slot.to_string()),
            other => Err(io::Error::other(format!("not a slot: {other:?}"))),
        }
    }

    async fn id(&self, server: usize) -> io::Result<String> {
        Ok(self.servers[server]
            .command(&["CLUSTER", "MYID"])
            .await?
            .text()
            .unwrap_or_default())
    }
}

/// Runs a command whose refusal is an error.
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
        let cluster = RedisCluster::start_as(&RedisServer::builder(), 2, 1)
            .await
            .unwrap();
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
        assert_eq!(
            cluster.servers[2]
                .command(&["GET", "k1"])
                .await
                .unwrap()
                .text()
                .as_deref(),
            Some("v")
        );
    }
}
