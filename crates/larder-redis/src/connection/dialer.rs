use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use deadpool_redis::redis::{
    ProtocolVersion, RedisError, RedisResult, Value, aio::MultiplexedConnection, cmd,
};
use futures_util::future::try_join_all;
use larder_core::StoreError;
use tracing::{info, warn};

use crate::{
    config::RedisConfig,
    connection::{
        endpoint::Endpoint,
        handshake::{PushSink, Tracking, handshake},
        large_value_pool::{LargeValuePool, run_id},
        slot_map::SlotMap,
    },
    error::{describe, is_loss, is_without_resp3},
};

/// Opens the connections of one lane: one to the server at its address, or one to each master of
/// that server's cluster.
pub(crate) struct Dialer {
    config: RedisConfig,
    sink: PushSink,
    /// The server that the application named.
    seed: Arc<Endpoint>,
    /// Where the cluster's masters last were. They are asked for the slot map if the seed does not
    /// answer.
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
    /// In the order of the slot map's masters.
    pub(crate) channels: Vec<Channel>,
    pub(crate) slot_map: SlotMap,
}

/// An open connection.
pub(crate) struct Channel {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) large_values: LargeValuePool,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) tracking: Tracking,
    /// The run of the server, if it tells.
    pub(crate) run_id: Option<String>,
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
    pub(crate) fn new(config: &RedisConfig, endpoint: &Endpoint, sink: PushSink) -> Self {
        Self {
            config: config.clone(),
            sink,
            seed: Arc::new(endpoint.clone()),
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
            });
        }
        let endpoints = slot_map
            .masters()
            .iter()
            .map(|(host, port)| Arc::new(self.seed.at(host, *port)));
        self.masters = endpoints.collect();
        let used: Vec<_> = [&self.seed]
            .into_iter()
            .chain(&self.masters)
            .map(|at| at.place())
            .collect();
        self.servers.retain(|place, _| used.contains(place));
        let masters: Vec<_> = self
            .masters
            .clone()
            .into_iter()
            .map(|at| (self.server(&at), at))
            .collect();
        let mut asked = Some(asked);
        let (config, sink) = (&self.config, &self.sink);
        let opening = masters.into_iter().map(|(server, endpoint)| {
            let is_open = asked.take_if(|asked| asked.endpoint.place() == endpoint.place());
            async move {
                match is_open {
                    Some(channel) => Ok(channel),
                    None => open(&server, endpoint, config, sink).await,
                }
            }
        });
        Ok(Dialed {
            channels: try_join_all(opening).await?,
            slot_map,
        })
    }

    /// Asks one server after the other which master has which slots, until one knows; returns the
    /// connection to it too.
    async fn find_slot_map(&mut self) -> Result<(Channel, SlotMap), StoreError> {
        let mut candidates: Vec<_> = [&self.seed]
            .into_iter()
            .chain(&self.masters)
            .cloned()
            .collect();
        let first = self.rotation % candidates.len();
        candidates.rotate_left(first);
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
            address: self.seed.shown.clone(),
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
                Ok(SlotMap::standalone())
            }
        }
    }

    fn server(&mut self, endpoint: &Endpoint) -> Arc<Server> {
        self.servers.entry(endpoint.place()).or_default().clone()
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
    let (connection, tracking) = match connect(server, &endpoint, config, sink).await {
        Ok(opened) => opened,
        Err(error) => return failed(error, config.connect_timeout),
    };
    if tracking == Tracking::Refused && !server.is_reported.swap(true, Ordering::Relaxed) {
        warn!(event = "tracking_refused", address = %endpoint.shown,
            "the server refuses CLIENT TRACKING: processes publish what they change on the invalidation channel, and what \
             other programs write is noticed only when an entry's time in L1 ends");
    }
    let run_id = match run_id(&mut connection.clone()).await {
        Ok(run_id) => run_id,
        Err(error) => return failed(error, config.command_timeout),
    };
    let large_values = LargeValuePool::new(config, &endpoint, run_id.clone())?;
    Ok(Channel {
        connection,
        large_values,
        endpoint,
        tracking,
        run_id,
    })
}

/// Connects by RESP3, or by RESP2 to a server or proxy that does not speak it.
async fn connect(
    server: &Server,
    endpoint: &Endpoint,
    config: &RedisConfig,
    sink: &PushSink,
) -> RedisResult<(MultiplexedConnection, Tracking)> {
    // Acquire and Release: nothing else is published with the flag, it costs nothing here.
    if !server.is_old.load(Ordering::Acquire) {
        match handshake(endpoint, ProtocolVersion::RESP3, config, sink).await {
            Err(error) if is_without_resp3(&error) => server.is_old.store(true, Ordering::Release),
            opened => return opened,
        }
    }
    handshake(endpoint, ProtocolVersion::RESP2, config, sink).await
}
