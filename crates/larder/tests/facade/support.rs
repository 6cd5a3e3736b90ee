use std::sync::Arc;

use larder::{Cache, Clock, Larder, LarderBuilder, MemoryServer, TtlTable};

/// A policy for each behaviour that a test needs.
const TABLE: &str = r#"
    [item]
    ttl = "1h"
    negative_ttl = "1m"

    [hasty]
    ttl = "1h"
    load_timeout = "10ms"
    max_wait = "10ms"
"#;

/// A cache of texts by numbers, which most tests use.
pub(crate) type Items = Cache<u64, String>;

pub(crate) fn builder() -> LarderBuilder {
    Larder::builder().ttl_table(TtlTable::from_toml(TABLE).unwrap())
}

/// A larder with both levels, in a process of its own.
pub(crate) async fn process(server: &MemoryServer) -> Larder {
    builder()
        .remote_store(Arc::new(server.connect()))
        .build()
        .await
        .unwrap()
}

/// Larders without and with an L2.
pub(crate) async fn larders() -> [Larder; 2] {
    let server = MemoryServer::new(Clock::system());
    [builder().build().await.unwrap(), process(&server).await]
}
