//! Prints the time of a thousand keys by `get_many`, and by a bare `MGET` whose values are decoded:
//! measured in turn in one run, medians of all rounds. With `--check`, fails if a promise
//! is not kept.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a program for people at a terminal"
)]

use std::{hint::black_box, process::ExitCode, time::Duration};

use deadpool_redis::redis::cmd;
use larder_benches::{KEYS, Remote, User};
use larder_testkit::RedisServer;
use tokio::time::Instant;

const ROUNDS: usize = 201;
const MANY: u64 = 1000;

/// The largest time of `get_many`, as a multiple of a bare `MGET`.
const LIMIT: f64 = 1.3;

#[tokio::main]
async fn main() -> ExitCode {
    let server = RedisServer::start().await.unwrap();
    let remote = Remote::new(&server).await;
    let (mut raw, mut own) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS as u64 {
        let first = round % (KEYS / MANY) * MANY;
        let keys: Vec<u64> = (first..first + MANY).collect();
        let start = Instant::now();
        black_box(bare(&remote, &keys).await);
        raw.push(start.elapsed());
        let start = Instant::now();
        let found = black_box(remote.cache.get_many(&keys).await.unwrap());
        own.push(start.elapsed());
        assert_eq!(found.len(), keys.len());
    }
    let [raw, own] = [raw, own].map(micros);
    let ratio = own / raw;
    println!(
        "{MANY} keys take {own:.0} µs, a bare MGET with decoding {raw:.0} µs: {ratio:.2} × (at most {LIMIT})"
    );
    match ratio <= LIMIT || !std::env::args().any(|arg| arg == "--check") {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

async fn bare(remote: &Remote, keys: &[u64]) -> Vec<User> {
    let mut get = cmd("MGET");
    for key in keys {
        get.arg(format!("remote:{key}"));
    }
    let values: Vec<Vec<u8>> = get.query_async(&mut remote.raw.clone()).await.unwrap();
    values
        .iter()
        .map(|value| serde_json::from_slice(value).unwrap())
        .collect()
}

fn micros(mut rounds: Vec<Duration>) -> f64 {
    rounds.sort();
    rounds[rounds.len() / 2].as_nanos() as f64 / 1000.0
}
