//! The machine's own share in a measurement.

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

/// Measures how late sleeping tasks wake. Ends when it is dropped.
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

    /// The largest delay so far. A timer's own resolution is 1 ms.
    pub fn most(&self) -> Duration {
        Duration::from_nanos(self.most.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.measuring.abort();
    }
}

/// The resident memory of this process, in bytes. `None` where the system does not tell: only Linux
/// does.
pub fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The time that this process's threads have run, and the time that they waited for a processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scheduled {
    ran: u64,
    waited: u64,
}

impl Scheduled {
    /// Reads the times since each thread began. All zero where the system does not tell.
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

    /// The share of the processor time wanted since `earlier` that this process was given. Other
    /// processes took the rest.
    pub fn share_since(self, earlier: Self) -> f64 {
        let ran = self.ran.saturating_sub(earlier.ran) as f64;
        let waited = self.waited.saturating_sub(earlier.waited) as f64;
        if ran > 0.0 { ran / (ran + waited) } else { 1.0 }
    }
}
