use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::{
    ProtocolVersion, RedisError, RedisResult, Value, aio::MultiplexedConnection, cmd,
};
use futures_util::future::join_all;
use larder_core::{BreakerState, StoreError};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    breaker::Breaker,
    config::RedisConfig,
    connection::{
        addresses::Addresses,
        endpoint::Endpoint,
        handshake::{Opened, PushSink, Tracking, handshake},
        identity::{replication_id, run_id},
        large_value_pool::LargeValuePool,
        server_push::text,
        shards::{Absent, Shards},
        slot_map::SlotMap,
    },
    error::{describe, is_busy, is_loss, is_outage, is_without_resp3},
};
#[cfg(test)]
use crate::{
    command::{names::Names, publisher::Publisher},
    connection::session::Session,
};

/// Opens the connections of one lane: one to the server at its address, or one to each master of
/// that server's cluster.
pub(crate) struct Dialer {
    config: RedisConfig,
    sink: PushSink,
    addresses: Arc<Addresses>,
    shards: Arc<Shards>,
    /// Where the cluster's masters last were. They are asked for the slot map if no seed answers.
    masters: Vec<Arc<Endpoint>>,
    /// Counts failures: each one makes another server the first to be asked, because the one that
    /// answered may not know what others know.
    rotation: usize,
    /// By the place that they are at.
    servers: HashMap<String, Arc<Server>>,
    told_of_refusal: bool,
}

/// Connections that are not in service yet, and the slots of each master.
pub(crate) struct Dialed {
    /// In the order of the slot map's masters, and at least one.
    pub(crate) channels: Vec<Channel>,
    pub(crate) slot_map: SlotMap,
    /// The masters to which there is no connection.
    pub(crate) absent: Vec<Absent>,
}

/// An open connection.
pub(crate) struct Channel {
    /// The number of the master in the slot map.
    pub(crate) master: usize,
    /// The breaker of this one master of a cluster.
    pub(crate) breaker: Option<Arc<Breaker>>,
    pub(crate) connection: MultiplexedConnection,
    pub(crate) large_values: LargeValuePool,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) tracking: Tracking,
    /// When the connection is to log in anew.
    pub(crate) renew_at: Option<Instant>,
    /// The run of the server, if it tells.
    pub(crate) run_id: Option<String>,
    /// The history of data that the server continues, if it tells.
    pub(crate) replication_id: Option<String>,
}

/// A server, as this lane has met it.
#[derive(Default)]
struct Server {
    /// Whether it does not speak RESP3, and so cannot push.
    is_old: AtomicBool,
    /// Whether the log says already that it does not track.
    is_reported: AtomicBool,
}

impl Dialer {
    pub(crate) fn new(
        config: &RedisConfig,
        addresses: Arc<Addresses>,
        shards: Arc<Shards>,
        sink: PushSink,
    ) -> Self {
        Self {
            config: config.clone(),
            sink,
            addresses,
            shards,
            masters: Vec::new(),
            rotation: 0,
            servers: HashMap::new(),
            told_of_refusal: false,
        }
    }

    /// Opens all connections. Their predecessors must have been dropped.
    pub(crate) async fn dial(&mut self) -> Result<Dialed, StoreError> {
        let dialed = self.dial_all().await;
        self.rotation = if dialed.is_ok() {
            0
        } else {
            self.rotation.wrapping_add(1)
        };
        dialed
    }

    async fn dial_all(&mut self) -> Result<Dialed, StoreError> {
        let (asked, slot_map) = self.find_slot_map().await?;
        if slot_map.masters().is_empty() {
            self.masters.clear();
            return Ok(Dialed {
                channels: vec![asked],
                slot_map,
                absent: Vec::new(),
            });
        }
        let endpoints = slot_map
            .masters()
            .iter()
            .map(|(host, port)| Arc::new(self.addresses.told(host, *port)));
        self.masters = endpoints.collect();
        let used = [&asked.endpoint].into_iter().chain(&self.masters);
        let used: Vec<_> = used.map(|at| at.place()).collect();
        self.servers.retain(|place, _| used.contains(place));
        let mut told_state = asked.connection.clone();
        let (channels, absent) = self.open_masters(asked).await?;
        if !absent.is_empty() {
            self.expect_cluster_up(&mut told_state).await?;
        }
        Ok(Dialed {
            channels,
            slot_map,
            absent,
        })
    }

    /// Opens a connection to each master that can be reached. `asked` is one to a server of the
    /// cluster.
    async fn open_masters(
        &mut self,
        asked: Channel,
    ) -> Result<(Vec<Channel>, Vec<Absent>), StoreError> {
        let masters: Vec<_> = self
            .masters
            .clone()
            .into_iter()
            .map(|at| (self.server(&at), self.shards.breaker(&at), at))
            .collect();
        let is_closed = |breaker: &Breaker| breaker.state() == BreakerState::Closed;
        // Only a session tries masters that are left out. So if all of them are, there is none that
        // would, and they are tried here, as often as the store's own breaker lets a lane connect.
        let are_all_out = masters.iter().all(|(_, breaker, _)| !is_closed(breaker));
        let mut asked = Some(asked);
        let (config, sink) = (&self.config, &self.sink);
        let opening = masters.iter().map(|(server, breaker, endpoint)| {
            let is_open = asked.take_if(|asked| asked.endpoint.place() == endpoint.place());
            async move {
                if !are_all_out && !is_closed(breaker) {
                    return Err(StoreError::Unreachable {
                        address: endpoint.shown.clone(),
                        source: None,
                    });
                }
                match is_open {
                    Some(channel) => Ok(channel),
                    None => open(server, endpoint.clone(), config, sink).await,
                }
            }
        });
        let opened = join_all(opening).await;
        if are_all_out {
            let tried = opened.iter().zip(&masters);
            tried
                .filter(|(opened, _)| opened.is_ok())
                .for_each(|(_, (_, breaker, _))| breaker.close());
        }
        let masters = masters.into_iter().map(|(_, breaker, at)| (breaker, at));
        part(opened.into_iter().zip(masters))
    }

    /// Asks a server whether the cluster goes on without the masters that are gone.
    async fn expect_cluster_up(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), StoreError> {
        let info = cmd("CLUSTER").arg("INFO").take();
        match info.query_async::<String>(connection).await {
            Ok(info) if info.contains("cluster_state:fail") => Err(StoreError::Refused {
                address: self.addresses.shown.clone(),
                reason: "the cluster is down: a master is gone".to_owned(),
            }),
            // One that refuses says so with each command.
            _ => Ok(()),
        }
    }

    /// Asks one server after the other which master has which slots, until one knows; returns the
    /// connection to it too.
    async fn find_slot_map(&mut self) -> Result<(Channel, SlotMap), StoreError> {
        let mut candidates = self.addresses.seeds().await?;
        candidates.extend(self.masters.iter().cloned());
        let first = self.rotation % candidates.len().max(1);
        candidates.rotate_left(first);
        // Last those that are known to be gone.
        candidates.sort_by_key(|server| self.shards.is_gone(server));
        let mut failed = None;
        for endpoint in candidates {
            let server = self.server(&endpoint);
            let found = match open(&server, endpoint, &self.config, &self.sink).await {
                Ok(channel) => self
                    .slot_map(&channel)
                    .await
                    .map(|slot_map| (channel, slot_map)),
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return Ok(found),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed.unwrap_or_else(|| StoreError::Unreachable {
            address: self.addresses.shown.clone(),
            source: None,
        }))
    }

    /// Asks a server which master has which slots. One that refuses is no cluster.
    async fn slot_map(&mut self, channel: &Channel) -> Result<SlotMap, StoreError> {
        let (mut connection, endpoint) = (channel.connection.clone(), &channel.endpoint);
        let asked = cmd("CLUSTER")
            .arg("SLOTS")
            .query_async::<Value>(&mut connection)
            .await;
        match asked {
            Ok(slots) => {
                SlotMap::parse(&slots, endpoint.host()).ok_or_else(|| StoreError::Refused {
                    address: endpoint.shown.clone(),
                    reason: "some hash slots of the cluster have no master".to_owned(),
                })
            }
            // No answer, or one that only holds for now, says nothing about the server.
            Err(error)
                if is_loss(&error)
                    || matches!(
                        error.code(),
                        None | Some("LOADING" | "BUSY" | "MASTERDOWN" | "NOAUTH")
                    ) =>
            {
                Err(describe(
                    error,
                    &endpoint.shown,
                    self.config.command_timeout,
                    "",
                ))
            }
            Err(refused) => {
                if refused.code() == Some("NOPERM") && !self.told_of_refusal {
                    self.told_of_refusal = true;
                    info!(event = "cluster_slots_denied", address = %endpoint.shown,
                        "the user may not run CLUSTER SLOTS: using the server as a standalone one");
                }
                expect_master(channel, self.config.command_timeout).await?;
                Ok(SlotMap::standalone())
            }
        }
    }

    fn server(&mut self, endpoint: &Endpoint) -> Arc<Server> {
        self.servers.entry(endpoint.place()).or_default().clone()
    }
}

/// The problem with a server that is a replica.
pub(crate) const IS_REPLICA: &str =
    "it is a replica, and takes no writes: give the master's address";

/// Asks a server that is no cluster whether it is a master. Neither leases nor invalidations can be
/// written to a replica, and one that lags has what was invalidated long ago. A server that refuses
/// to say is taken for a master: it says so when it is written to.
async fn expect_master(channel: &Channel, limit: Duration) -> Result<(), StoreError> {
    let asked = cmd("ROLE")
        .query_async::<Value>(&mut channel.connection.clone())
        .await;
    let problem = match asked {
        Ok(reply) => problem_of_role(&reply),
        Err(error) if is_loss(&error) || is_outage(&error) || is_busy(&error) => {
            return Err(describe(error, &channel.endpoint.shown, limit, ""));
        }
        Err(_refused) => None,
    };
    match problem {
        None => Ok(()),
        Some(problem) => Err(StoreError::Unfit {
            address: channel.endpoint.shown.clone(),
            problem: problem.to_owned(),
        }),
    }
}

/// Reads the reply to `ROLE`, and returns the problem with a server that is no master.
pub(crate) fn problem_of_role(reply: &Value) -> Option<&'static str> {
    let Value::Array(words) = reply else {
        return None;
    };
    match text(words.first()?)? {
        "slave" => Some(IS_REPLICA),
        "sentinel" => Some(
            "it is a Sentinel: write redis+sentinel://host:port/service, with the name of the service",
        ),
        _ => None,
    }
}

/// Parts the masters into those that are connected and those that are not.
///
/// # Errors
/// If none is connected, or one refuses the credentials.
fn part(
    masters: impl Iterator<Item = (Result<Channel, StoreError>, (Arc<Breaker>, Arc<Endpoint>))>,
) -> Result<(Vec<Channel>, Vec<Absent>), StoreError> {
    let (mut channels, mut absent, mut failed) = (Vec::new(), Vec::new(), None);
    for (master, (opened, (breaker, endpoint))) in masters.enumerate() {
        match opened {
            Ok(channel) => channels.push(Channel {
                master,
                breaker: Some(breaker),
                ..channel
            }),
            Err(StoreError::Unauthorized { address }) => {
                return Err(StoreError::Unauthorized { address });
            }
            Err(error) => {
                breaker.trip(&error);
                failed.get_or_insert(error);
                absent.push(Absent {
                    master,
                    endpoint,
                    breaker,
                });
            }
        }
    }
    match failed {
        Some(error) if channels.is_empty() => Err(error),
        _ => Ok((channels, absent)),
    }
}

async fn open(
    server: &Server,
    endpoint: Arc<Endpoint>,
    config: &RedisConfig,
    sink: &PushSink,
) -> Result<Channel, StoreError> {
    let failed =
        |error: RedisError, limit| Err::<Channel, _>(describe(error, &endpoint.shown, limit, ""));
    let Opened {
        connection,
        tracking,
        renew_at,
    } = match connect(server, &endpoint, config, sink).await {
        Ok(opened) => opened,
        Err(error) => return failed(error, config.connect_timeout),
    };
    if tracking == Tracking::Refused && !server.is_reported.swap(true, Ordering::Relaxed) {
        warn!(event = "tracking_refused", address = %endpoint.shown,
            "the server refuses CLIENT TRACKING: entries in L1 live at most as long as degraded_l1_ttl says, because \
             processes that may track do not publish what they change. If none may, set coherence = Channel in all of them");
    }
    let mut on = connection.clone();
    let (run_id, replication_id) = match (run_id(&mut on).await, replication_id(&mut on).await) {
        (Ok(run_id), Ok(replication_id)) => (run_id, replication_id),
        (Err(error), _) | (_, Err(error)) => return failed(error, config.command_timeout),
    };
    let large_values = LargeValuePool::new(config, &endpoint, run_id.clone())?;
    Ok(Channel {
        connection,
        large_values,
        endpoint,
        tracking,
        renew_at,
        master: 0,
        breaker: None,
        run_id,
        replication_id,
    })
}

/// Connects by RESP3, or by RESP2 to a server or proxy that does not speak it.
async fn connect(
    server: &Server,
    endpoint: &Endpoint,
    config: &RedisConfig,
    sink: &PushSink,
) -> RedisResult<Opened> {
    // Acquire and Release: nothing else is published with the flag, it costs nothing here.
    if !server.is_old.load(Ordering::Acquire) {
        match handshake(endpoint, ProtocolVersion::RESP3, config, sink).await {
            Err(error) if is_without_resp3(&error) => server.is_old.store(true, Ordering::Release),
            opened => return opened,
        }
    }
    handshake(endpoint, ProtocolVersion::RESP2, config, sink).await
}

/// A session with the server at the address.
#[cfg(test)]
pub(crate) async fn session(config: &RedisConfig) -> Session {
    let addresses = Arc::new(Addresses::parse(config).unwrap());
    let shards = Arc::new(Shards::new(config));
    let mut dialer = Dialer::new(config, addresses, shards, Arc::new(|_| {}));
    let dialed = dialer.dial().await.unwrap();
    Session::new(&dialed, &Arc::new(Names::new("")), &Publisher::silent())
}

#[cfg(test)]
mod tests {
    use larder_testkit::RedisCluster;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn masters_that_were_all_left_out_are_tried_again() {
        let cluster = RedisCluster::start().await.unwrap();
        let config = RedisConfig::new(cluster.url());
        let addresses = Arc::new(Addresses::parse(&config).unwrap());
        let shards = Arc::new(Shards::new(&config));
        let mut dialer = Dialer::new(&config, addresses, shards.clone(), Arc::new(|_| {}));
        let dialed = dialer.dial().await.unwrap();
        assert_eq!((dialed.channels.len(), dialed.absent.len()), (3, 0));
        drop(dialed);
        for master in &dialer.masters {
            shards.breaker(master).trip(&"gone");
        }
        let dialed = dialer.dial().await.unwrap();
        assert_eq!((dialed.channels.len(), dialed.absent.len()), (3, 0));
        assert!(!dialer.masters.iter().any(|master| shards.is_gone(master)));
    }
}
