//! A hit in L1 on each of its stores, beside a hit of the store itself, with the same keys in the
//! same run.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros, and a benchmark's set-up"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use larder_benches::{Hits, Local, zipf};

fn l1_hit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let local = runtime.block_on(Local::new(None));
    let keys = zipf(1 << 16);
    let mut group = criterion.benchmark_group("l1_hit");
    group.throughput(Throughput::Elements(keys.len() as u64));
    let stores: [(&str, Hits); 4] = [
        ("moka::sync", Local::moka),
        ("larder on moka", Local::on_moka),
        ("quick_cache::sync", Local::quick),
        ("larder on quick_cache", Local::on_quick),
    ];
    for (name, hit) in stores {
        group.bench_function(name, |bencher| bencher.iter(|| hit(&local, &keys)));
    }
    group.finish();
}

criterion_group!(benches, l1_hit);
criterion_main!(benches);
