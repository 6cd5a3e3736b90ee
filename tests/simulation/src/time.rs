//! The time of a history. It passes only while every task waits.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    task::Poll,
    time::Duration,
};

use larder_core::Clock;
use tokio::time::{Instant, sleep};

use crate::names::namespace;

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
    static LAST: Cell<u64> = const { Cell::new(0) };
    static TRACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Begins the time of a history on this thread, within its runtime.
pub(crate) fn begin(traced: bool) {
    START.set(Some(Instant::now()));
    LAST.set(0);
    TRACE.set(traced.then(String::new));
}

/// Ends the history, and returns its trace.
pub(crate) fn end() -> String {
    START.set(None);
    TRACE.take().unwrap_or_default()
}

/// The present moment in nanoseconds. No two moments are the same, so of any two events one is the
/// earlier.
pub(crate) fn now() -> u64 {
    let elapsed = elapsed().as_nanos();
    let later = LAST.get() + 1;
    let now = later.max(u64::try_from(elapsed).unwrap_or(u64::MAX));
    LAST.set(now);
    now
}

fn elapsed() -> Duration {
    START.get().map_or(Duration::ZERO, |start| start.elapsed())
}

/// A clock for larder, which shows the same time.
pub(crate) fn clock() -> Clock {
    Clock::from_fn(elapsed)
}

/// Writes a line into the trace, if there is one.
pub(crate) fn note(line: impl FnOnce() -> String) {
    TRACE.with_borrow_mut(|trace| {
        if let Some(trace) = trace {
            // The namespace is another one in each run.
            let line = line().replace(&format!("{}/", namespace()), "");
            trace.push_str(&format!("{} {line}\n", Shown(LAST.get())));
        }
    });
}

/// A moment, in milliseconds.
pub(crate) struct Shown(pub(crate) u64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Lets other tasks go on, for a random time: often none, mostly short.
pub(crate) async fn pause(longest_ms: u64) {
    match fastrand::u8(0..16) {
        0..6 => {}
        6..10 => {
            for _ in 0..fastrand::u8(1..5) {
                give_way().await;
            }
        }
        10..12 => {
            for _ in 0..fastrand::u8(1..4) {
                tokio::task::yield_now().await;
            }
        }
        12..15 => wait(1..=3.min(longest_ms)).await,
        _ => wait(1..=longest_ms).await,
    }
}

/// Lets other tasks go on now and then, as a thread is interrupted.
pub(crate) async fn linger() {
    match fastrand::u8(0..8) {
        0..5 => {}
        5..7 => {
            for _ in 0..fastrand::u8(1..4) {
                give_way().await;
            }
        }
        _ => wait(1..=2).await,
    }
}

/// Waits for some milliseconds.
pub(crate) async fn wait(millis: std::ops::RangeInclusive<u64>) {
    sleep(Duration::from_millis(fastrand::u64(millis))).await;
}

/// Lets each task go on once that can go on now.
async fn give_way() {
    let mut is_woken = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_woken, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
