//! Hits in L1 and nothing else, for `valgrind --tool=callgrind` and `perf`:
//! `hits larder|larder-quick|moka|quick [number]`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for people at a terminal"
)]

use larder_benches::{Hits, Local, zipf};

fn main() {
    let mut args = std::env::args().skip(1);
    let which = args.next().unwrap_or_default();
    let hits = args
        .next()
        .map_or(100_000, |hits| hits.parse::<usize>().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let local = runtime.block_on(Local::new(None));
    let keys = zipf(100_000);
    let hit: Hits = match which.as_str() {
        "larder" => Local::on_moka,
        "larder-quick" => Local::on_quick,
        "moka" => Local::moka,
        "quick" => Local::quick,
        other => panic!("{other:?} is none of larder, larder-quick, moka, quick"),
    };
    for done in (0..hits).step_by(keys.len()) {
        hit(&local, &keys[..keys.len().min(hits - done)]);
    }
}
