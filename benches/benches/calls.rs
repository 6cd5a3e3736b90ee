//! The calls that reach Redis, one at a time: a miss with its load, and each kind of write.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros, and a benchmark's set-up"
)]

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, Ordering},
};

use criterion::{Criterion, criterion_group, criterion_main};
use larder::{Cache, Larder};
use larder_benches::{KEYS, User};
use larder_testkit::RedisServer;

fn calls(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let users: Cache<u64, User> = runtime.block_on(async {
        let larder = Larder::builder().redis(server.url()).build().await.unwrap();
        larder.cache("user_profile").unwrap()
    });
    // Each miss has a new key.
    let next = AtomicU64::new(KEYS);
    let user = |id| move || async move { Ok::<_, Infallible>(User::new(id)) };
    let mut group = criterion.benchmark_group("calls");
    macro_rules! call {
        ($name:literal, $id:ident => $call:expr) => {
            group.bench_function($name, |bencher| {
                bencher.to_async(&runtime).iter(|| {
                    let $id = next.fetch_add(1, Ordering::Relaxed);
                    let users = &users;
                    async move { $call(users, $id).await }
                });
            });
        };
    }
    call!("get_or_load, a miss", id => async |users: &Cache<u64, User>, id| users.get_or_load(id, user(id)).await.unwrap());
    call!("write_through", id => async |users: &Cache<u64, User>, id| users.write_through(id % KEYS, user(id)).await.unwrap());
    call!("write_around", id => async |users: &Cache<u64, User>, id| users.write_around(id % KEYS, user(id)).await.unwrap());
    call!("insert", id => async |users: &Cache<u64, User>, id| users.insert(id % KEYS, User::new(id)).await.unwrap());
    call!("invalidate", id => async |users: &Cache<u64, User>, id| users.invalidate(id % KEYS).await.unwrap());
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
