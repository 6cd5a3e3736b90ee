//! Prints the throughput of reads from L2 by number of lanes and of tasks, as a share of that of
//! one multiplexed connection, with and without tracking by the server (larder's lanes have it):
//! measured in turn in one run, medians of all rounds. With `raw` or a number of lanes and a number
//! of reads, only reads, for `perf` and `valgrind --tool=callgrind`.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people at a terminal"
)]

use std::{hint::black_box, time::Duration};

use larder::RedisConfig;
use larder_benches::{Remote, zipf};
use larder_testkit::RedisServer;
use tokio::{runtime::Runtime, time::Instant};

const ROUNDS: usize = 11;
const LANES: [u16; 3] = [1, 2, 4];

fn main() {
    let mut args = std::env::args().skip(1);
    let (which, reads) = (
        args.next(),
        args.next().map_or(10_000, |reads| reads.parse().unwrap()),
    );
    let tasks = args.next().map_or(1, |tasks| tasks.parse().unwrap());
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let remote = |lanes| {
        let config = RedisConfig::new(server.url()).lanes(lanes);
        runtime.block_on(Remote::with(&server, config))
    };
    match which.as_deref() {
        Some("raw") => {
            let took = read(&runtime, &remote(1), Way::Raw, tasks, &zipf(reads));
            println!("{took:?}");
        }
        Some(lanes) => {
            let took = read(
                &runtime,
                &remote(lanes.parse().unwrap()),
                Way::Larder,
                tasks,
                &zipf(reads),
            );
            println!("{took:?}");
        }
        None => compare(&runtime, &LANES.map(remote)),
    }
}

fn compare(runtime: &Runtime, remotes: &[Remote]) {
    for tasks in [1, 16, 64, 256] {
        let keys = zipf(if tasks == 1 { 4000 } else { 256 * 125 });
        let (mut raw, mut tracked) = (Vec::new(), Vec::new());
        let mut own = vec![Vec::new(); remotes.len()];
        for _ in 0..ROUNDS {
            raw.push(read(runtime, &remotes[0], Way::Raw, tasks, &keys));
            tracked.push(read(runtime, &remotes[0], Way::Tracked, tasks, &keys));
            for (remote, own) in remotes.iter().zip(&mut own) {
                own.push(read(runtime, remote, Way::Larder, tasks, &keys));
            }
        }
        let (raw, tracked) = (median(raw), median(tracked));
        let rate = |took: Duration| keys.len() as f64 / took.as_secs_f64() / 1e3;
        print!(
            "{tasks} tasks: multiplexed {:.0} k reads/s, tracked {:.2} ×",
            rate(raw),
            rate(tracked) / rate(raw)
        );
        for (lanes, own) in LANES.iter().zip(own) {
            let own = median(own);
            print!(
                "; {lanes} lanes {:.0} k/s, {:.2} ×",
                rate(own),
                rate(own) / rate(raw)
            );
        }
        println!();
    }
}

/// The way to read a key.
#[derive(Clone, Copy)]
enum Way {
    Raw,
    Tracked,
    Larder,
}

fn read(runtime: &Runtime, remote: &Remote, way: Way, tasks: usize, keys: &[u64]) -> Duration {
    let start = Instant::now();
    runtime.block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for part in keys.chunks(keys.len() / tasks) {
            let (remote, part) = (remote.clone(), part.to_vec());
            running.spawn(async move {
                for id in part {
                    match way {
                        Way::Raw => drop(black_box(remote.raw_read(id).await)),
                        Way::Tracked => drop(black_box(remote.tracked_read(id).await)),
                        Way::Larder => drop(black_box(remote.read(id).await)),
                    }
                }
            });
        }
        running.join_all().await;
    });
    start.elapsed()
}

fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort();
    rounds[rounds.len() / 2]
}
