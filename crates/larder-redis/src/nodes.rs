use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use deadpool_redis::{
    Connection,
    redis::{Value, aio::MultiplexedConnection, cmd},
};
use futures_util::future::try_join_all;
use larder_core::StoreError;
use tracing::info;

use crate::{
    RedisConfig,
    bulk::{self, Bulk},
    connector::Connector,
    endpoint::Endpoint,
    error::{describe, is_loss},
    lane::Lane,
    topology::Topology,
};

/// Opens the connections of one lane: to the server of its address, or to each master of the cluster that this is one of.
pub(crate) struct Nodes {
    config: RedisConfig,
    lane: Weak<Lane>,
    /// What the application named.
    seed: Arc<Endpoint>,
    /// Where the cluster's masters last were: they are asked where the others are, if the seed does not answer.
    masters: Vec<Arc<Endpoint>>,
    /// Which of them is asked first. It moves on with each failure, because who answers may not know what others know.
    turn: usize,
    /// By the place they connect to.
    connectors: HashMap<String, Arc<Connector>>,
    told_of_refusal: bool,
}

/// Connections that are not in service yet, and who has which slots.
pub(crate) struct Opened {
    /// In the order of the topology's masters.
    pub(crate) channels: Vec<Channel>,
    pub(crate) topology: Topology,
}

/// An open connection. Taken from its pool when this is dropped, so that the pool opens a new one and closes this one.
pub(crate) struct Channel {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) bulk: Bulk,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) tracks: bool,
    pooled: Option<Connection>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.pooled.take().map(Connection::take);
    }
}

impl Nodes {
    pub(crate) fn new(
        config: &RedisConfig,
        endpoint: &Endpoint,
        lane: &Weak<Lane>,
    ) -> Result<Self, StoreError> {
        let mut nodes = Self {
            config: config.clone(),
            lane: lane.clone(),
            seed: Arc::new(endpoint.clone()),
            masters: Vec::new(),
            turn: 0,
            connectors: HashMap::new(),
            told_of_refusal: false,
        };
        nodes.connector(&nodes.seed.clone())?; // what is wrong with the address is said at once
        Ok(nodes)
    }

    /// Opens all connections. Those of before must have been dropped.
    pub(crate) async fn connect(&mut self) -> Result<Opened, StoreError> {
        let opened = self.open_all().await;
        self.turn = if opened.is_ok() { 0 } else { self.turn.wrapping_add(1) };
        opened
    }

    async fn open_all(&mut self) -> Result<Opened, StoreError> {
        let (asked, topology) = self.ask_around().await?;
        if topology.masters().is_empty() {
            self.masters.clear();
            return Ok(Opened { channels: vec![asked], topology });
        }
        let endpoints = topology.masters().iter().map(|(host, port)| Arc::new(self.seed.at(host, *port)));
        self.masters = endpoints.collect();
        let used: Vec<_> = [&self.seed].into_iter().chain(&self.masters).map(|at| at.place()).collect();
        self.connectors.retain(|place, _| used.contains(place));
        let mut opening = Vec::new();
        let mut asked = Some(asked);
        for endpoint in self.masters.clone() {
            let is_open = asked.take_if(|asked| asked.endpoint.place() == endpoint.place());
            let connector = self.connector(&endpoint)?;
            let config = self.config.clone();
            opening.push(async move {
                match is_open {
                    Some(channel) => Ok(channel),
                    None => open(&connector, endpoint, &config).await,
                }
            });
        }
        Ok(Opened { channels: try_join_all(opening).await?, topology })
    }

    /// Asks one after the other who has which slots, until one knows, and returns the connection to it too.
    async fn ask_around(&mut self) -> Result<(Channel, Topology), StoreError> {
        let mut candidates: Vec<_> = [&self.seed].into_iter().chain(&self.masters).cloned().collect();
        let first = self.turn % candidates.len();
        candidates.rotate_left(first);
        let mut failed = None;
        for endpoint in candidates {
            let connector = self.connector(&endpoint)?;
            let asked = match open(&connector, endpoint, &self.config).await {
                Ok(channel) => self.ask(&channel).await.map(|topology| (channel, topology)),
                Err(error) => Err(error),
            };
            match asked {
                Ok(found) => return Ok(found),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        Err(failed
            .unwrap_or_else(|| StoreError::Unreachable { address: self.seed.shown.clone(), source: None }))
    }

    /// Asks who has which slots. A server that refuses is no cluster.
    async fn ask(&mut self, channel: &Channel) -> Result<Topology, StoreError> {
        let (mut connection, endpoint) = (channel.connection.clone(), &channel.endpoint);
        let asked = cmd("CLUSTER").arg("SLOTS").query_async::<Value>(&mut connection).await;
        match asked {
            Ok(slots) => Topology::of(&slots, endpoint.host()).ok_or_else(|| StoreError::Refused {
                address: endpoint.shown.clone(),
                reason: "some hash slots of the cluster have no master".to_owned(),
            }),
            // Not yet, or nothing at all, is no answer.
            Err(error)
                if is_loss(&error)
                    || matches!(error.code(), None | Some("LOADING" | "BUSY" | "MASTERDOWN" | "NOAUTH")) =>
            {
                Err(describe(error, &endpoint.shown, self.config.command_timeout, ""))
            }
            Err(refused) => {
                if refused.code() == Some("NOPERM") && !self.told_of_refusal {
                    self.told_of_refusal = true;
                    info!(address = %endpoint.shown,
                        "CLUSTER SLOTS is not permitted: the server is taken for one that is no cluster");
                }
                Ok(Topology::alone())
            }
        }
    }

    fn connector(&mut self, endpoint: &Endpoint) -> Result<Arc<Connector>, StoreError> {
        let place = endpoint.place();
        if let Some(connector) = self.connectors.get(&place) {
            return Ok(connector.clone());
        }
        let connector = Arc::new(Connector::new(&self.config, endpoint, &self.lane)?);
        self.connectors.insert(place, connector.clone());
        Ok(connector)
    }
}

async fn open(
    connector: &Connector,
    endpoint: Arc<Endpoint>,
    config: &RedisConfig,
) -> Result<Channel, StoreError> {
    let (pooled, tracks) = connector.connect().await?;
    let connection = (*pooled).clone();
    let server = bulk::server(&mut connection.clone()).await;
    let server = server.map_err(|error| describe(error, &endpoint.shown, config.command_timeout, ""))?;
    let bulk = Bulk::new(config, &endpoint, server)?;
    Ok(Channel { connection, bulk, endpoint, tracks, pooled: Some(pooled) })
}
