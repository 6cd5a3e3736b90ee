//! Prints how larder compares with the raw libraries below it: measured in turn in one run, medians
//! of all rounds. With `--l1`, of L1 only. With `--check`, fails if a promise is not kept.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people at a terminal"
)]

use std::{hint::black_box, process::ExitCode, time::Duration};

use larder_benches::{Hits, Local, Remote, uniform, zipf};
use larder_testkit::RedisServer;
use tokio::time::Instant;

const ROUNDS: usize = 15;
const HITS: usize = 200_000;
const READS: usize = 64 * 500;

/// The largest cost of a hit on each store, as a multiple of a raw hit.
const MOKA_LIMIT: f64 = 1.10;
const QUICK_LIMIT: f64 = 1.60;
/// The least speed of a hit on quick_cache, as a multiple of moka's by itself.
const QUICK_GAIN: f64 = 3.0;
/// The least share of the throughput that quick_cache by itself has with two threads.
const TWO_LIMIT: f64 = 0.70;
/// The least share of the raw throughput of L2.
const L2_LIMIT: f64 = 0.90;

/// larder and the libraries by themselves, measured in turn.
const HITS_ON: [Hits; 4] = [Local::moka, Local::on_moka, Local::quick, Local::on_quick];

fn main() -> ExitCode {
    let asked = |what: &str| std::env::args().any(|arg| arg == what);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let mut kept = true;
    for (name, server) in [("L1 only", None), ("L1 in front of Redis", Some(&server))] {
        let local = runtime.block_on(Local::new(server));
        kept &= one_thread(name, &local);
        if server.is_none() {
            kept &= two_threads("Zipf 0.99", &local, &zipf(HITS));
            kept &= two_threads("uniform keys", &local, &uniform(HITS));
        }
    }
    if !asked("--l1") {
        kept &= l2(&runtime, &server);
    }
    if asked("--check") && !kept {
        println!("a promise is not kept");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn one_thread(name: &str, local: &Local) -> bool {
    let keys = zipf(HITS);
    let mut rounds = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        for (rounds, hit) in rounds.iter_mut().zip(HITS_ON) {
            rounds.push(time_warm(|| hit(local, &keys)));
        }
    }
    let [moka, on_moka, quick, on_quick] = rounds.map(|rounds| nanos(rounds, HITS));
    let (over_moka, over_quick, gain) = (on_moka / moka, on_quick / quick, moka / on_quick);
    println!(
        "{name}: a hit takes {on_moka:.0} ns, moka's own {moka:.0} ns: {over_moka:.2} × (at most {MOKA_LIMIT})"
    );
    println!(
        "{name}: on quick_cache {on_quick:.0} ns, its own {quick:.0} ns: {over_quick:.2} × (at most {QUICK_LIMIT}), \
         and {gain:.1} times as fast as moka's own (at least {QUICK_GAIN})"
    );
    // Now and then, moka reorders the hit entries, and its memory reclamation allocates: in both
    // stores alike.
    let some = &keys[..HITS / 10];
    let allocated = HITS_ON.map(|hit| allocation_counter::measure(|| hit(local, some)).count_total);
    println!(
        "{name}: {} hits allocate so often in moka, larder on it, quick_cache, larder on it: {allocated:?}",
        HITS / 10
    );
    over_moka <= MOKA_LIMIT && over_quick <= QUICK_LIMIT && gain >= QUICK_GAIN
}

/// Times two threads that hit at once. Each begins at another point of one sequence of keys.
fn two_threads(name: &str, local: &Local, keys: &[u64]) -> bool {
    let mut rounds = [const { Vec::new() }; 4];
    let (front, back) = keys.split_at(keys.len() / 2);
    for _ in 0..ROUNDS {
        for (rounds, hit) in rounds.iter_mut().zip(HITS_ON) {
            let both = || {
                std::thread::scope(|scope| {
                    for [first, then] in [[front, back], [back, front]] {
                        scope.spawn(move || {
                            hit(local, first);
                            hit(local, then);
                        });
                    }
                });
            };
            rounds.push(time_warm(both));
        }
    }
    let [moka, on_moka, quick, on_quick] = rounds.map(|rounds| 1e3 / nanos(rounds, 2 * keys.len()));
    let share = on_quick / quick;
    println!(
        "two threads, {name}: on moka {on_moka:.1} M hits/s, its own {moka:.1} M/s: {:.2} ×; \
         on quick_cache {on_quick:.1} M/s, its own {quick:.1} M/s: {share:.2} × (at least {TWO_LIMIT})",
        on_moka / moka
    );
    share >= TWO_LIMIT
}

fn l2(runtime: &tokio::runtime::Runtime, server: &RedisServer) -> bool {
    let mut kept = true;
    let remote = runtime.block_on(Remote::new(server));
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
    kept
}

/// Times the second of two runs: the measurement before has left its own memory in the processor's
/// caches, and a wait for memory would make all results alike.
fn time_warm(run: impl Fn()) -> Duration {
    run();
    time(run)
}

fn time(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// The time of one operation in the median round, in nanoseconds.
fn nanos(mut rounds: Vec<Duration>, operations: usize) -> f64 {
    rounds.sort();
    rounds[rounds.len() / 2].as_nanos() as f64 / operations as f64
}
