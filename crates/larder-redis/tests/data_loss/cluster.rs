//! One master of a cluster comes back with older data.

use futures_util::future::try_join_all;
use larder_core::{Lanes, ValueStore};
use larder_redis::RedisStore;
use larder_testkit::{RedisCluster, RedisServer};

use crate::{CHOICES, config, expect, save, wait_for, write};

/// The keys that the second server of a cluster has.
async fn of_server_1<'a>(cluster: &RedisCluster, keys: &'a [String]) -> Vec<&'a String> {
    let homes = keys.iter().map(|key| cluster.home(key));
    let homes = try_join_all(homes).await.unwrap();
    let at_home = keys.iter().zip(homes).filter(|(_, home)| *home == 1);
    at_home.map(|(key, _)| key).collect()
}

/// Each master has marks of its own.
#[tokio::test]
async fn master_of_a_cluster_that_comes_back_with_older_data_is_corrected() {
    for (choice, found) in CHOICES {
        let mut cluster = RedisCluster::start().await.unwrap();
        let store = RedisStore::connect(config(cluster.url(), choice))
            .await
            .unwrap();
        let keys: Vec<String> = (0..20).map(|n| format!("item:{n}")).collect();
        for key in &keys {
            write(&store, key, "v1").await;
        }
        save(&cluster.servers[1], choice).await;
        for key in &keys {
            write(&store, key, "v2").await;
        }
        cluster.servers[1].restart().await.unwrap();
        cluster.settle().await.unwrap();
        for key in of_server_1(&cluster, &keys).await {
            expect(&store, key, found, choice).await;
        }
    }
}

/// P30 forgotten-is-redone: a master that is left out keeps its mark until it is back.
#[tokio::test]
async fn master_that_was_left_out_is_corrected_when_it_is_back() {
    for (choice, found) in CHOICES {
        let options = RedisServer::builder().args(&["--cluster-require-full-coverage", "no"]);
        let mut cluster = RedisCluster::start_as(&options, 3, 0).await.unwrap();
        let store = RedisStore::connect(config(cluster.url(), choice))
            .await
            .unwrap();
        let keys: Vec<String> = (0..40).map(|n| format!("item:{n}")).collect();
        for key in &keys {
            write(&store, key, "v1").await;
        }
        save(&cluster.servers[1], choice).await;
        for key in &keys {
            write(&store, key, "v2").await;
        }
        let lost = of_server_1(&cluster, &keys).await;
        cluster.servers[1].kill();
        wait_for("it is not left out", async || {
            let is_out = store.stats().lanes_lost >= 2 && store.get(lost[0]).await.is_err();
            is_out.then_some(())
        })
        .await;
        for key in keys.iter().filter(|key| !lost.contains(key)) {
            expect(&store, key, Some("v2"), choice).await;
        }
        cluster.servers[1].restart().await.unwrap();
        for key in lost {
            expect(&store, key, found, choice).await;
        }
    }
}
