use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use larder_core::BreakerState;

use crate::{breaker::Breaker, config::RedisConfig, connection::endpoint::Endpoint};

/// The circuit breakers of a cluster's masters, which all lanes of a store share. One master that
/// is gone, or takes no writes, is left out of the lanes' next sessions, and the others go on.
pub(crate) struct Shards {
    config: RedisConfig,
    /// By the place that the master is at.
    breakers: Mutex<HashMap<String, Arc<Breaker>>>,
}

/// A master that has no part in a session.
pub(crate) struct Absent {
    /// Its number in the slot map.
    pub(crate) master: usize,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) breaker: Arc<Breaker>,
}

impl Shards {
    pub(crate) fn new(config: &RedisConfig) -> Self {
        Self {
            config: config.clone(),
            breakers: Mutex::default(),
        }
    }

    /// Whether this is a master whose breaker is not closed.
    pub(crate) fn is_gone(&self, server: &Endpoint) -> bool {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        let breaker = breakers.get(&server.place());
        breaker.is_some_and(|breaker| breaker.state() != BreakerState::Closed)
    }

    /// The breaker of the master at this endpoint.
    pub(crate) fn breaker(&self, master: &Endpoint) -> Arc<Breaker> {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of masters that the cluster had once.
        breakers.retain(|_, breaker| {
            Arc::strong_count(breaker) > 1 || breaker.state() != BreakerState::Closed
        });
        let make = || Arc::new(Breaker::of_shard(&self.config, master.shown.clone()));
        breakers.entry(master.place()).or_insert_with(make).clone()
    }
}
