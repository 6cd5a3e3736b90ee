//! A hit in L1, beside moka's own, on the same keys in the same run.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros, and a benchmark's set-up")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Local, zipf};

fn l1_hit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let local = runtime.block_on(Local::new(None));
    let keys = zipf(1 << 16);
    let mut group = criterion.benchmark_group("l1_hit");
    let mut next = keys.iter().cycle();
    group.bench_function("moka::sync", |bencher| {
        bencher.iter(|| black_box(local.raw_hit(*next.next().unwrap())));
    });
    let mut next = keys.iter().cycle();
    group.bench_function("larder", |bencher| {
        bencher.iter(|| black_box(local.hit(*next.next().unwrap())));
    });
    group.finish();
}

criterion_group!(benches, l1_hit);
criterion_main!(benches);
