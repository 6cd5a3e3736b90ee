//! The servers of a run, and the addresses at which programs find them.

use std::sync::{Arc, Mutex, PoisonError};

use larder_testkit::{RedisServer, RedisServerBuilder};

use crate::{Problem, keys::Namespace};

/// The servers of a run.
#[derive(Debug)]
pub(crate) enum Servers {
    /// One server.
    Single(RedisServer),
}

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
    pub(crate) async fn start() -> Result<Self, Problem> {
        Ok(Self::Single(options().start().await?))
    }

    pub(crate) fn all(&self) -> &[RedisServer] {
        match self {
            Self::Single(server) => std::slice::from_ref(server),
        }
    }

    pub(crate) fn all_mut(&mut self) -> &mut [RedisServer] {
        match self {
            Self::Single(server) => std::slice::from_mut(server),
        }
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.all().iter().map(RedisServer::addr).collect()
    }

    /// The URL at which a process of the namespace finds the servers by these addresses.
    pub(crate) fn url(&self, namespace: Namespace, addresses: &[String]) -> String {
        let first = addresses.first().map_or("", String::as_str);
        format!("redis://{}{first}", namespace.login())
    }
}
