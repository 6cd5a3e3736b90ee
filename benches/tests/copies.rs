//! A large value is copied no more often than the client itself copies it. The tests run on one
//! thread, so that every allocation counts.

use std::convert::Infallible;

use deadpool_redis::redis::{AsyncCommands, Client};
use larder::{Cache, Larder, Loaded, TtlTable};
use larder_testkit::RedisServer;
use tokio::runtime::{Builder, Runtime};

const SIZE: usize = 1024 * 1024;

/// The allowance for memory that does not grow with the value: the lane's buffers, which hold its
/// first 64 KiB.
const REST: u64 = 300 * 1024;

const TABLE: &str = "[value]\nttl = '1h'\nlevels = 'l2'\n[kept]\nttl = '1h'\n";

/// At least as many values as are read back.
const READ_BACK: usize = 20;

/// Returns the bytes that the second of two runs allocates.
fn bytes<T>(runtime: &Runtime, mut run: impl AsyncFnMut() -> T) -> u64 {
    runtime.block_on(run());
    allocation_counter::measure(|| drop(runtime.block_on(run()))).bytes_total
}

#[test]
fn large_value_is_copied_no_more_often_than_by_the_client() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let table = TtlTable::from_toml(TABLE).unwrap();
    let larder = runtime
        .block_on(
            Larder::builder()
                .ttl_table(table)
                .redis(server.url())
                .build(),
        )
        .unwrap();
    let client = Client::open(server.url()).unwrap();
    let raw = runtime
        .block_on(client.get_multiplexed_async_connection())
        .unwrap();
    let text = "x".repeat(SIZE);

    let set = bytes(&runtime, async || {
        let json = serde_json::to_vec(&text).unwrap();
        raw.clone().set::<_, _, ()>("raw", json).await.unwrap();
    });
    let get = bytes(&runtime, async || {
        let json: Vec<u8> = raw.clone().get("raw").await.unwrap();
        serde_json::from_slice::<String>(&json).unwrap()
    });
    for (policy, tag) in [("value", None), ("kept", None), ("kept", Some("tag"))] {
        let cache: Cache<String, String> = larder.cache(policy).unwrap();
        // The first values of a type are read back before they are stored; it is over with these.
        for _ in 0..READ_BACK {
            runtime
                .block_on(cache.insert("small", String::new()))
                .unwrap();
        }
        let written = bytes(&runtime, async || {
            let value = tag.into_iter().fold(Loaded::new(text.clone()), Loaded::tag);
            let writer = async move || Ok::<_, Infallible>(value);
            cache.write_through("k", writer).await.unwrap()
        });
        let table = TtlTable::from_toml(TABLE).unwrap();
        let reader = Larder::builder()
            .ttl_table(table)
            .redis(server.url())
            .l1_entries(0)
            .build();
        let reader: Cache<String, String> =
            runtime.block_on(reader).unwrap().cache(policy).unwrap();
        let read = bytes(&runtime, async || reader.get("k").await.unwrap().unwrap());
        println!(
            "{policy}, tag {tag:?}: written {written}, read {read}; the client alone {set}, {get}"
        );
        let own = SIZE as u64; // the copy that the writer hands over
        assert!(written <= set + own + REST && written <= 7 * own);
        assert!(read <= get + REST && read <= 3 * own);
    }
}
