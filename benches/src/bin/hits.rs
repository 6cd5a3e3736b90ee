//! Hits in L1 and nothing else, for `valgrind --tool=callgrind` and `perf`: `hits larder|moka [number]`.
#![allow(clippy::unwrap_used, reason = "a program for people at a terminal")]

use std::hint::black_box;

use larder_benches::{Local, zipf};

fn main() {
    let mut args = std::env::args().skip(1);
    let raw = args.next().is_some_and(|which| which == "moka");
    let hits = args.next().map_or(100_000, |hits| hits.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let local = runtime.block_on(Local::new(None));
    let keys = zipf(100_000);
    for id in keys.iter().cycle().take(hits) {
        match raw {
            true => drop(black_box(local.raw_hit(*id))),
            false => drop(black_box(local.hit(*id))),
        }
    }
}
