//! A large value is copied no more often than the client itself copies it. All on one thread, so that every allocation counts.

use std::convert::Infallible;

use allocation_counter::measure_future;
use deadpool_redis::redis::{AsyncCommands, Client};
use larder::{Cache, Larder, Loaded, TtlTable};
use larder_testkit::RedisServer;

const SIZE: usize = 1024 * 1024;

/// What is left for all that does not grow with the value: the first 64 KiB of it, which the lane reads, in its buffers.
const REST: u64 = 300 * 1024;

const TABLE: &str = "[value]\nttl = '1h'\nlevels = 'l2'\n[kept]\nttl = '1h'\n";

/// How many bytes are allocated while this runs, on the second of two runs.
async fn bytes<T>(mut run: impl AsyncFnMut() -> T) -> u64 {
    run().await;
    measure_future(async { drop(run().await) }).await.bytes_total
}

#[tokio::test]
async fn large_value_is_copied_no_more_often_than_by_the_client() {
    let server = RedisServer::start().await.unwrap();
    let table = TtlTable::from_toml(TABLE).unwrap();
    let larder = Larder::builder().ttl_table(table).redis(server.url()).build().await.unwrap();
    let raw = Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let text = "x".repeat(SIZE);

    let set = bytes(async || {
        let json = serde_json::to_vec(&text).unwrap();
        raw.clone().set::<_, _, ()>("raw", json).await.unwrap();
    })
    .await;
    let get = bytes(async || {
        let json: Vec<u8> = raw.clone().get("raw").await.unwrap();
        serde_json::from_slice::<String>(&json).unwrap()
    })
    .await;
    println!("raw: set {set}, get {get}");
    for (row, tag) in [("value", None), ("kept", None), ("kept", Some("tag"))] {
        let cache: Cache<String> = larder.cache(row).unwrap();
        let written = bytes(async || {
            let value = tag.into_iter().fold(Loaded::new(text.clone()), Loaded::tag);
            let writer = async move || Ok::<_, Infallible>(value);
            cache.write_through("k", writer).await.unwrap()
        })
        .await;
        let reader: Cache<String> = Larder::builder()
            .ttl_table(TtlTable::from_toml(TABLE).unwrap())
            .redis(server.url())
            .l1_entries(0)
            .build()
            .await
            .unwrap()
            .cache(row)
            .unwrap();
        let read = bytes(async || reader.get("k").await.unwrap().unwrap()).await;
        println!("{row} {tag:?}: written {written}, read {read}");
    }
}
