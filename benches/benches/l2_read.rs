//! A read from L2, beside a read by the client itself: one at a time, and 64 at once.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros, and a benchmark's set-up"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use larder_benches::{Remote, zipf};
use larder_testkit::RedisServer;

const READS: usize = 64 * 100;

fn l2_read(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let remote = runtime.block_on(Remote::new(&server));
    let keys = zipf(READS);
    for tasks in [1, 64] {
        let mut group = criterion.benchmark_group(format!("l2_read/{tasks}"));
        group
            .sample_size(20)
            .throughput(Throughput::Elements(READS as u64));
        macro_rules! compare {
            ($($name:literal => $read:ident),*) => { $(
                group.bench_function($name, |bencher| {
                    bencher.to_async(&runtime).iter(|| async {
                        let mut running = tokio::task::JoinSet::new();
                        for part in keys.chunks(READS / tasks) {
                            let (remote, part) = (remote.clone(), part.to_vec());
                            running.spawn(async move {
                                for id in part {
                                    remote.$read(id).await;
                                }
                            });
                        }
                        running.join_all().await;
                    });
                });
            )* };
        }
        compare!("multiplexed" => raw_read, "larder" => read, "checkout per command" => pooled_read);
        group.finish();
    }
}

criterion_group!(benches, l2_read);
criterion_main!(benches);
