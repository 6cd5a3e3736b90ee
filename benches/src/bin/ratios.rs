//! Prints how larder compares with the raw libraries below it: measured in turn in one run, medians of all rounds.
//! With `--check`, fails if a promise is not kept.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people at a terminal"
)]

use std::{hint::black_box, process::ExitCode, time::Duration};

use larder_benches::{Local, Remote, zipf};
use larder_testkit::RedisServer;
use tokio::time::Instant;

const ROUNDS: usize = 15;
const HITS: usize = 200_000;
const READS: usize = 64 * 500;

/// At most this many times a raw hit, at least this share of the raw throughput.
const L1_LIMIT: f64 = 1.25;
const L2_LIMIT: f64 = 0.70;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let mut kept = true;

    for (name, server) in [("L1 only", None), ("L1 in front of Redis", Some(&server))] {
        let local = runtime.block_on(Local::new(server));
        let keys = zipf(HITS);
        let (mut raw, mut own) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            raw.push(time(|| keys.iter().for_each(|id| drop(black_box(local.raw_hit(*id))))));
            own.push(time(|| keys.iter().for_each(|id| drop(black_box(local.hit(*id))))));
        }
        let (raw, own) = (nanos(raw, HITS), nanos(own, HITS));
        let allocations = |hit: &dyn Fn(u64)| {
            let counted = allocation_counter::measure(|| keys[..HITS / 10].iter().for_each(|id| hit(*id)));
            counted.count_total
        };
        // Now and then, moka reorders what was hit, and its memory reclamation allocates: in both alike.
        let allocated = allocations(&|id| drop(black_box(local.hit(id))));
        let in_moka = allocations(&|id| drop(black_box(local.raw_hit(id))));
        let ratio = own / raw;
        println!(
            "{name}: a hit takes {own:.0} ns, moka's own {raw:.0} ns: {ratio:.2} × (at most {L1_LIMIT})"
        );
        println!("{name}: {} hits allocate {allocated} times, moka's own {in_moka} times", HITS / 10);
        kept &= ratio <= L1_LIMIT;
    }

    let remote = runtime.block_on(Remote::new(&server));
    for tasks in [1, 64] {
        let reads = if tasks == 1 { READS / 8 } else { READS };
        let keys = zipf(reads);
        let (mut raw, mut own, mut pooled) = (Vec::new(), Vec::new(), Vec::new());
        macro_rules! measure {
            ($into:ident, $read:ident) => {
                $into.push(time(|| {
                    runtime.block_on(async {
                        let mut running = tokio::task::JoinSet::new();
                        for part in keys.chunks(reads / tasks) {
                            let (remote, part) = (remote.clone(), part.to_vec());
                            running.spawn(async move {
                                for id in part {
                                    black_box(remote.$read(id).await);
                                }
                            });
                        }
                        running.join_all().await;
                    });
                }))
            };
        }
        for _ in 0..ROUNDS {
            measure!(raw, raw_read);
            measure!(own, read);
            measure!(pooled, pooled_read);
        }
        let [raw, own, pooled] = [raw, own, pooled].map(|rounds| 1e6 / nanos(rounds, reads));
        let ratio = own / raw;
        println!(
            "L2 at {tasks} tasks: {own:.0} k reads/s, multiplexed {raw:.0} k/s: {ratio:.2} × (at least {L2_LIMIT}); \
             a checkout per command {pooled:.0} k/s"
        );
        kept &= tasks == 1 || ratio >= L2_LIMIT;
    }
    if std::env::args().any(|arg| arg == "--check") && !kept {
        println!("a promise is not kept");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// The median round's time for one of its operations, in nanoseconds.
fn nanos(mut rounds: Vec<Duration>, operations: usize) -> f64 {
    rounds.sort();
    rounds[rounds.len() / 2].as_nanos() as f64 / operations as f64
}
