//! A cluster, processes on it, and keys of each of its masters.

use std::{sync::Arc, time::Duration};

use larder::{Clock, Larder, Levels, ManualClock};
use larder_core::{LaneIndex, LaneState, Lanes};
use larder_redis::{RedisConfig, RedisStore};
use larder_testkit::{RedisCluster, RedisServer, Reply};

use super::{
    calls::Items,
    policy::{builder_of, named, policy},
    wait::holds,
};

/// A name in the slot of the tags.
pub(crate) const TAGS: &str = "larder:{tags}";

/// A process on a cluster, whose clock is moved by hand.
pub(crate) struct Process {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) larder: Larder,
    pub(crate) items: Items,
    pub(crate) hand: ManualClock,
}

impl Process {
    pub(crate) async fn new(cluster: &RedisCluster) -> Self {
        Self::with(config(cluster.url())).await
    }

    pub(crate) async fn with(config: RedisConfig) -> Self {
        let store = Arc::new(RedisStore::connect(config).await.unwrap());
        let (clock, hand) = Clock::manual();
        let policies = [
            policy(),
            named("other"),
            named("shared").levels(Levels::L2),
            named("instant").instant_clear(true),
        ];
        let larder = builder_of(&policies)
            .remote_store(store.clone())
            .clock(clock)
            .build()
            .await
            .unwrap();
        let items = larder.cache("item").unwrap();
        Self {
            store,
            larder,
            items,
            hand,
        }
    }

    pub(crate) fn is(&self, state: LaneState) -> bool {
        LaneIndex::all(self.store.lanes()).all(|lane| self.store.lane_state(lane) == state)
    }

    pub(crate) async fn is_back(&self) {
        holds("all lanes are connected", || self.is(LaneState::Scattered)).await;
    }
}

/// More servers run at a time than in other tests, so each is given more time.
pub(crate) fn config(url: String) -> RedisConfig {
    crate::support::redis::config(url)
        .connect_timeout(Duration::from_secs(5))
        .command_timeout(Duration::from_secs(1))
}

pub(crate) async fn cluster() -> RedisCluster {
    RedisCluster::start().await.unwrap()
}

/// A key of this policy for each server of a cluster.
pub(crate) async fn keys(cluster: &RedisCluster, policy: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for server in 0..3 {
        for n in 0.. {
            let key = format!("{server}-{n}");
            if cluster.home(&format!("{policy}:{key}")).await.unwrap() == server {
                keys.push(key);
                break;
            }
        }
    }
    keys
}

/// The names that a server has, by a pattern.
pub(crate) async fn names(server: &RedisServer, pattern: &str) -> Vec<String> {
    let Reply::Array(names) = server.command(&["KEYS", pattern]).await.unwrap() else {
        panic!()
    };
    names.iter().filter_map(Reply::text).collect()
}
