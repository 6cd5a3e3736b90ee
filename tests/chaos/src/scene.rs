use std::{sync::Arc, time::Duration};

use larder_testkit::RedisServer;
use tokio::sync::{Mutex, watch};

use crate::{
    database::Database,
    member::{Common, Member},
    servers::{Places, Servers},
    told::Shared,
};

/// All that a fault can hit.
pub(crate) struct Scene<'a> {
    pub(crate) servers: Servers,
    pub(crate) members: Vec<Member>,
    pub(crate) common: Common<'a>,
    pub(crate) database: &'a Database,
    pub(crate) random: fastrand::Rng,
    pub(crate) told: Shared,
    /// Where the foreign program finds the servers.
    pub(crate) places: Places,
    /// Held while the server evicts: what a foreign program has written and the server evicts again
    /// is not noticed by a load under way.
    pub(crate) quiet: Arc<Mutex<()>>,
    /// The server that had the address before, and goes on: who is still connected to it does not
    /// see that another has its place.
    pub(crate) left: Option<RedisServer>,
    /// The number of losses of data so far, for the foreign program.
    pub(crate) losses: watch::Sender<usize>,
    /// The number of the next process.
    pub(crate) next: u16,
}

impl Scene<'_> {
    /// Chooses how long a fault is on.
    pub(crate) fn length(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(100..1_500))
    }
}
