use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::User;

/// Stands for the application's database: it takes its time, and counts.
#[derive(Clone, Debug, Default)]
pub struct Database {
    takes: Duration,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    loads: AtomicU64,
    /// The end of the first load; 0 as long as none has ended.
    first_end: AtomicU64,
}

impl Database {
    /// Makes a database whose reads take this long. Its writes take no time at all.
    pub fn new(takes: Duration) -> Self {
        Self {
            takes,
            seen: Arc::default(),
        }
    }

    /// Reads a user.
    pub async fn find(&self, id: u64) -> User {
        self.seen.loads.fetch_add(1, Ordering::Relaxed); // a count orders nothing
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let ended = monotonic();
        let _ =
            self.seen
                .first_end
                .compare_exchange(0, ended, Ordering::Relaxed, Ordering::Relaxed);
        User::new(id, 210)
    }

    /// Writes a user.
    pub async fn write(&self, user: User) -> User {
        user
    }

    /// The number of reads so far.
    pub fn loads(&self) -> u64 {
        self.seen.loads.load(Ordering::Relaxed)
    }

    /// The end of the first read, by [`monotonic`]; 0 if none has ended.
    pub fn first_end(&self) -> u64 {
        self.seen.first_end.load(Ordering::Relaxed)
    }
}

/// Nanoseconds of the clock that all processes of a machine share.
#[expect(
    clippy::cast_sign_loss,
    reason = "the monotonic clock counts upwards from 0"
)]
pub fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
