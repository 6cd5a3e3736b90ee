//! Many histories, on all processors.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use larder_chaos::Problem;
use tokio::time::Instant;

use crate::world::{Outcome, simulate};

/// The outcome of many histories.
#[derive(Debug)]
pub struct Found {
    /// The first history that broke the promise, by its seed.
    pub broken: Option<Outcome>,
    /// The number of histories.
    pub histories: u64,
    /// The number of calls of caches in them.
    pub operations: u64,
    /// The time that they took.
    pub took: Duration,
}

/// Runs the histories of this seed and those that follow it, for this time, or until one of them
/// breaks the promise. Each thread takes the next seed.
///
/// # Errors
/// If a history does not work out, whatever larder does.
pub fn search(first: u64, limit: Duration, threads: usize) -> Result<Found, Problem> {
    let began = Instant::now();
    let (next, operations) = (AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    let broken: Mutex<Option<Result<Outcome, Problem>>> = Mutex::default();
    let run = || {
        while !is_over.load(Ordering::Relaxed) && began.elapsed() < limit {
            let seed = first.wrapping_add(next.fetch_add(1, Ordering::Relaxed));
            let outcome = simulate(seed, false);
            if let Ok(outcome) = &outcome {
                let many = u64::try_from(outcome.operations).unwrap_or(u64::MAX);
                operations.fetch_add(many, Ordering::Relaxed);
            }
            if !outcome.as_ref().is_ok_and(Outcome::is_good) {
                is_over.store(true, Ordering::Relaxed);
                let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
                broken.get_or_insert(outcome);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(run);
        }
    });
    let broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Found {
        broken: broken.transpose()?,
        histories: next.into_inner(),
        operations: operations.into_inner(),
        took: began.elapsed(),
    })
}
