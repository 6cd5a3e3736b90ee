//! The cost of one operation in figures that do not depend on the load of the machine:
//! instructions, counted by callgrind, and allocations. The guard compares them with
//! `benches/guard.toml` and fails if one is larger than the file allows; `--write` writes them
//! there instead.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a program for people at a terminal"
)]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    ops::Range,
    process::{Command, ExitCode},
    time::Duration,
};

use futures_util::FutureExt;
use larder::{Cache, L1Store, Larder, RedisConfig, TtlTable};
use larder_benches::User;
use larder_testkit::RedisServer;
use serde::{Deserialize, Serialize};
use tokio::{runtime::Runtime, task::JoinSet};

const FIGURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/guard.toml");
const HEADER: &str = "\
# What one operation costs: instructions by callgrind, and allocations. `cargo xtask guard` compares, in the test run too;
# `cargo xtask guard --write` writes this file, after a change that is meant to cost what it costs.
";

/// The percentage of further instructions that is no slower path: the C library chooses its
/// routines by the processor, and a server's replies do not always arrive in one piece.
const TOLERANCE: f64 = 0.06;

const TRIES: usize = 3;

/// The number of keys that are read over and over, and the number of keys that are read once.
const HOT: u64 = 100;
const COLD: u64 = 6_400;

/// The number of runs before the counted ones: the first use of each part sets it up, which is not
/// the operation's cost.
const WARM: u64 = 200;

/// The number of tasks that read at the same time, where an operation has several.
const TASKS: u64 = 64;

const NEVER: Duration = Duration::from_secs(3600);

const TABLE: &str = r#"
    [both]
    ttl = "1h"

    [remote]
    ttl = "1h"
    levels = "l2"
"#;

/// The operations: the name of each, and the number of its runs that are counted.
const OPERATIONS: [(&str, u64); 8] = [
    ("l1_hit", 20_000),
    ("l1_hit_quick", 20_000),
    ("l2_hit", 2_000),
    ("l2_hit_of_many", 3_200),
    ("promotion", 2_000),
    ("miss", 1_000),
    ("write", 1_000),
    ("invalidation", 1_000),
];

/// The cost of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Cost {
    instructions: u64,
    allocations: u64,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["run", operation, times] => {
            println!("{}", run(operation, times.parse().unwrap()));
            ExitCode::SUCCESS
        }
        ["--write"] => {
            let least = |(name, times)| (name, least(name, times, |_| false));
            let costs = BTreeMap::from(OPERATIONS.map(least));
            std::fs::write(
                FIGURES,
                format!("{HEADER}\n{}", toml::to_string(&costs).unwrap()),
            )
            .unwrap();
            ExitCode::SUCCESS
        }
        [] => compare(),
        _ => {
            println!("usage: guard [--write]");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> ExitCode {
    let figures: BTreeMap<String, Cost> =
        toml::from_str(&std::fs::read_to_string(FIGURES).unwrap()).unwrap();
    let mut kept = true;
    println!(
        "{:<14}{:>14}{:>10}{:>13}{:>10}",
        "", "instructions", "allowed", "allocations", "allowed"
    );
    for (name, times) in OPERATIONS {
        let Some(was) = figures.get(name).copied() else {
            println!("{name} has no figures yet: `cargo xtask guard --write`");
            return ExitCode::FAILURE;
        };
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "they are small"
        )]
        let most = (was.instructions as f64 * (1.0 + TOLERANCE)) as u64;
        // No allocation stays none. Among many, one more may be a table that grows.
        let more = u64::from(was.allocations > 0);
        let is_kept =
            |is: Cost| is.instructions <= most && is.allocations <= was.allocations + more;
        let is = least(name, times, is_kept);
        println!(
            "{name:<14}{:>14}{most:>10}{:>13}{:>10}",
            is.instructions, is.allocations, was.allocations
        );
        kept &= is_kept(is);
    }
    match kept {
        true => ExitCode::SUCCESS,
        false => {
            println!(
                "an operation costs more than it did; if that is meant, `cargo xtask guard --write`"
            );
            ExitCode::FAILURE
        }
    }
}

/// Returns the first cost of a few tries that is low enough, or else the lowest. The machine
/// decides how often a task is woken for one reply; the operation does not.
fn least(operation: &str, times: u64, is_enough: impl Fn(Cost) -> bool) -> Cost {
    let mut least = cost(operation, times);
    for _ in 1..TRIES {
        if !is_enough(least) {
            least = least.min(cost(operation, times));
        }
    }
    least
}

/// Counts a program that only does the operation, and one that does it twice as often. The
/// difference is the cost.
fn cost(operation: &str, times: u64) -> Cost {
    let [once, twice] = [times, 2 * times].map(|times| instructions(operation, times));
    let instructions = (twice.saturating_sub(once)) / times;
    let counted = Command::new(std::env::current_exe().unwrap())
        .args(["run", operation, &times.to_string()])
        .output()
        .unwrap();
    let allocations: u64 = String::from_utf8(counted.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    Cost {
        instructions,
        allocations: allocations / times,
    }
}

fn instructions(operation: &str, times: u64) -> u64 {
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args(["run", operation, &times.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8(valgrind.stderr).unwrap();
    let collected = said
        .lines()
        .find_map(|line| line.split("Collected :").nth(1));
    collected
        .unwrap_or_else(|| panic!("valgrind says {said}"))
        .trim()
        .parse()
        .unwrap()
}

/// Does an operation this often, and returns the number of allocations.
fn run(operation: &str, times: u64) -> u64 {
    // One thread: everything is counted, and nothing depends on the scheduler.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = runtime.block_on(RedisServer::start()).unwrap();
    let is_hit = operation.starts_with("l1_hit");
    let store = if operation == "l1_hit_quick" {
        L1Store::Quick
    } else {
        L1Store::Moka
    };
    let larder = || runtime.block_on(open(&server, store));
    let policy = if operation.starts_with("l2_hit") {
        "remote"
    } else {
        "both"
    };
    let (filler, cache): (Cache<u64, User>, Cache<u64, User>) = (
        larder().cache(policy).unwrap(),
        larder().cache(policy).unwrap(),
    );
    // A constant number, so that it cancels out in the difference between two runs.
    let there = match operation {
        "miss" | "write" | "invalidation" => 0,
        _ if is_hit => HOT,
        _ => COLD,
    };
    runtime
        .block_on(filler.insert_many((0..there).map(|id| (id, User::new(id)))))
        .unwrap();
    let load = |id: u64| {
        let loader = move || async move { Ok::<_, Infallible>(User::new(id)) };
        runtime.block_on(cache.get_or_load(id, loader)).unwrap();
    };
    if operation == "write" || operation == "invalidation" {
        return change(&runtime, &cache, operation == "write", times);
    }
    if is_hit {
        (0..HOT).for_each(load);
        hit(&cache, 0..WARM).now_or_never().unwrap();
        let hits = hit(&cache, WARM..WARM + times);
        return allocation_counter::measure(|| hits.now_or_never().unwrap()).count_total;
    }
    (0..WARM).for_each(load);
    if operation == "l2_hit_of_many" {
        let all = read_by_many(&cache, times);
        return allocation_counter::measure(|| drop(runtime.block_on(all))).count_total;
    }
    allocation_counter::measure(|| (WARM..WARM + times).for_each(load)).count_total
}

/// Reads keys that are in L1, one after the other, as a caller does.
async fn hit(cache: &Cache<u64, User>, numbers: Range<u64>) {
    for n in numbers {
        drop(cache.get(n % HOT).await.unwrap().unwrap());
    }
}

/// Writes keys, or invalidates them, and returns the number of allocations.
fn change(runtime: &Runtime, cache: &Cache<u64, User>, is_write: bool, times: u64) -> u64 {
    let change = |id: u64| {
        let writer = move || async move { Ok::<_, Infallible>(User::new(id)) };
        match is_write {
            true => drop(runtime.block_on(cache.write_through(id, writer)).unwrap()),
            false => runtime.block_on(cache.invalidate(id)).unwrap(),
        }
    };
    (0..WARM).for_each(change);
    allocation_counter::measure(|| (WARM..WARM + times).for_each(change)).count_total
}

/// Opens a larder with one lane and one connection: no probe and no ping falls into the counted
/// time.
async fn open(server: &RedisServer, store: L1Store) -> Larder {
    let table = TtlTable::from_toml(TABLE).unwrap();
    let redis = RedisConfig::new(server.url())
        .lanes(1)
        .probe_interval(NEVER)
        .ping_interval(NEVER);
    let larder = Larder::builder()
        .ttl_table(table)
        .l1_store(store)
        .redis_config(redis);
    larder.build().await.unwrap()
}

/// Reads every key once, by many tasks at the same time.
async fn read_by_many(cache: &Cache<u64, User>, times: u64) -> Vec<()> {
    let reads = |of: u64| {
        let cache = cache.clone();
        async move {
            for n in 0..times / TASKS {
                cache.get(TASKS * n + of).await.unwrap().unwrap();
            }
        }
    };
    (0..TASKS)
        .map(reads)
        .collect::<JoinSet<()>>()
        .join_all()
        .await
}
