//! What the machine itself does to a measurement.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

/// Measures by how much sleepers wake late; ends when it is dropped.
#[derive(Debug)]
pub struct Lateness {
    most: Arc<AtomicU64>,
    measuring: AbortHandle,
}

impl Lateness {
    /// Starts to measure. Must be called in a tokio runtime.
    pub fn measure() -> Self {
        const INTERVAL: Duration = Duration::from_millis(10);
        let most = Arc::new(AtomicU64::new(0));
        let noted = most.clone();
        // A task of its own, which is late when the callers' tasks are.
        let measuring = tokio::spawn(async move {
            loop {
                let start = Instant::now();
                sleep(INTERVAL).await;
                let late = start.elapsed().saturating_sub(INTERVAL);
                noted.fetch_max(
                    u64::try_from(late.as_nanos()).unwrap_or(u64::MAX),
                    Ordering::Relaxed,
                );
            }
        });
        Self {
            most,
            measuring: measuring.abort_handle(),
        }
    }

    /// The most so far; a timer's own resolution is a millisecond.
    pub fn most(&self) -> Duration {
        Duration::from_nanos(self.most.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.measuring.abort();
    }
}

/// How much memory this process has, in bytes; `None` where the system does not say (it is Linux
/// that does).
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// How long this process's threads have run, and how long they could have run but others did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduled {
    ran: u64,
    waited: u64,
}

impl Scheduled {
    /// Since each thread began. All zero where the system does not say.
    pub fn read() -> Self {
        let mut sum = Self::default();
        let threads = fs::read_dir("/proc/self/task")
            .into_iter()
            .flatten()
            .flatten();
        for said in
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok())
        {
            let mut nanos = said
                .split_whitespace()
                .filter_map(|nanos| nanos.parse::<u64>().ok());
            sum.ran += nanos.next().unwrap_or(0);
            sum.waited += nanos.next().unwrap_or(0);
        }
        sum
    }

    /// Which share of the time that this process wanted since `earlier` it was given: what others
    /// took is no fault of it.
    pub fn share_since(self, earlier: Self) -> f64 {
        let ran = self.ran.saturating_sub(earlier.ran) as f64;
        let waited = self.waited.saturating_sub(earlier.waited) as f64;
        if ran > 0.0 { ran / (ran + waited) } else { 1.0 }
    }
}
