//! Every implementation of a store trait passes its suite.

use std::sync::Arc;

use larder_core::{Clock, MemoryServer, RemoteStore};
use larder_moka::{Capacity, MokaMap, MokaStore};
use larder_quick::{QuickMap, QuickStore};
use larder_testkit::{RedisServer, conformance};

use crate::support::{gated::Gated, world::World};

/// P3 clean-lease-commits, P4 l1-read-from-l2, P5 invalidation-marks-writers, P6 one-writer-first:
/// the scripts, on a real server.
#[tokio::test(flavor = "multi_thread")]
async fn redis_store_conforms() {
    let world = World::new().await;
    conformance::remote_store(|| world.store()).await;
}

/// P26 scripts-publish: the same, on a server that refuses tracking.
#[tokio::test(flavor = "multi_thread")]
async fn redis_store_without_tracking_conforms() {
    let world = World::without_tracking().await;
    conformance::remote_store(|| world.store()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gated_store_conforms() {
    let world = World::new().await;
    conformance::remote_store(|| async { Gated::new(world.store().await) as Arc<dyn RemoteStore> })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_store_conforms() {
    let server = MemoryServer::new(Clock::system());
    conformance::remote_store(|| async { Arc::new(server.connect()) as Arc<dyn RemoteStore> })
        .await;
}

/// P2 only-current-is-served.
#[test]
fn moka_store_conforms() {
    for capacity in [Capacity::Entries, Capacity::Weight] {
        conformance::local_store(|entries, generations, clock| {
            Arc::new(MokaStore::new(
                MokaMap::new(capacity(entries)),
                generations,
                clock,
            ))
        });
    }
}

/// P2 only-current-is-served.
#[test]
fn quick_store_conforms() {
    for capacity in [Capacity::Entries, Capacity::Weight] {
        conformance::local_store(|entries, generations, clock| {
            Arc::new(QuickStore::new(
                QuickMap::new(capacity(entries)),
                generations,
                clock,
            ))
        });
    }
}

/// The leases' names lie in the slots that a real server computes.
#[tokio::test(flavor = "multi_thread")]
async fn keys_and_their_leases_share_a_slot() {
    let server = RedisServer::builder().cluster().start().await.unwrap();
    let slot = async |name: &str| server.command(&["CLUSTER", "KEYSLOT", name]).await.unwrap();
    for (key, lease) in [
        ("user:42", "larder:lease:{user:42}"),
        ("user:{a}:b", "larder:lease-tagged:user:{a}:b"),
    ] {
        assert_eq!(slot(key).await, slot(lease).await, "{key}");
    }
}
