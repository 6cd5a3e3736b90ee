use std::{fmt, time::Duration};

use larder::{Policy, RedisConfig, TableError, TtlTable};

/// So long after its limit a call has certainly taken too long; the rest is the machine's own
/// doing.
pub(crate) const GRACE: Duration = Duration::from_millis(100);
/// How many callers of each kind a process has.
pub(crate) const READERS: u64 = 8;
pub(crate) const WRITERS: u64 = 3;
/// A lifetime within a fault: what is not written is loaded again, or served stale.
pub(crate) const BRIEF_TTL: Duration = Duration::from_secs(1);
const COMMAND_TIMEOUT: Duration = Duration::from_millis(300);
/// A writer has no time limit of larder's, so it has one of its own, as the documentation asks.
pub(crate) const WRITER_LIMIT: Duration = Duration::from_millis(300);

/// The rows: one whose values end within a fault, and one whose values outlive the run, so that
/// nothing old goes unseen at its end.
const ROWS: [(&str, &str); 2] = [("brief", "1s"), ("lasting", "1h")];
const LIMITS: &str = r#"jitter = "0%"
load_timeout = "400ms"
max_wait = "400ms"
lease = "500ms"
degraded_l1_ttl = "300ms"
"#;
const STALE_FOR: &str = "stale_for = \"30s\"";

/// The table of a cell.
pub(crate) fn table(stale_for: bool) -> Result<TtlTable, TableError> {
    TtlTable::from_toml(&rows(if stale_for { STALE_FOR } else { "" }))
}

/// The rows as the report shows them.
pub(crate) fn shown() -> String {
    rows(&format!("{STALE_FOR} # in half of the cells"))
}

fn rows(more: &str) -> String {
    ROWS.map(|(name, ttl)| format!("[{name}]\nttl = \"{ttl}\"\n{LIMITS}{more}\n"))
        .join("\n")
}

/// How a member uses Redis.
pub(crate) fn redis(url: String) -> RedisConfig {
    RedisConfig::new(url)
        .lanes(2)
        .command_timeout(COMMAND_TIMEOUT)
        .connect_timeout(Duration::from_millis(300))
        .ping_interval(Duration::from_millis(50))
        .probe_interval(Duration::from_millis(200))
}

/// The longest time that a read may take, whatever is broken.
///
/// It looks into L2, asks for the lease as often as it is woken, loads, commits, and reads back
/// what it has committed. Of these
/// - one command at most waits for its whole time-out: that loses the lane, and on a lane that is
///   down every further call fails at once. Commands that are answered late have the same time
///   together: their number, some five, times the server's delay is below it;
/// - all waits, for another's lease and for a slot of `max_loads`, share one `max_wait`, which
///   counts from before the first claim;
/// - the loader runs once, for `load_timeout` at most: who gives up waiting for another's load has
///   not loaded before.
///
/// A caller that joined a load after it began starts over if the key is invalidated meanwhile
/// (P16 only-for-earlier-callers). That gives it no more time: it then waits for others only as
/// long as is left of one `max_wait`, and shares a load that keeps nothing after it. A caller that
/// came after an invalidation does not wait for the load that this has outdated: a current load
/// runs beside it. Only where both are outdated, a third load waits for one of them to end, within
/// the same time. The load that keeps nothing waits for it after that time too, and is next. This
/// is within the limit as long as two loaders, one after the other, need less than `load_timeout`
/// and what late commands leave of their time-out; a loader that takes longer has met its own
/// limit, or nearly.
pub fn longest_read(row: &Policy) -> Duration {
    COMMAND_TIMEOUT + row.max_wait() + row.load_timeout()
}

/// The longest time that a write or an invalidation may take: one `max_write_wait` for other
/// writers' leases, the writer itself, and one command that is not answered, after which everything
/// else is remembered instead of sent.
pub fn longest_write(row: &Policy) -> Duration {
    row.max_write_wait() + WRITER_LIMIT + COMMAND_TIMEOUT
}

/// One of the keys that a cell uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(usize);

impl Key {
    const IN_ROW: usize = 12;
    pub(crate) const COUNT: usize = Self::IN_ROW * ROWS.len();

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// One to read, some more often than others.
    pub(crate) fn pick(random: &mut fastrand::Rng) -> Self {
        let in_row = random
            .usize(0..Self::IN_ROW)
            .min(random.usize(0..Self::IN_ROW));
        Self(random.usize(0..ROWS.len()) * Self::IN_ROW + in_row)
    }

    /// One for a process to write. A third of the keys is never written, so that there is something
    /// to expire and be served stale; a third is written by one process only, so that the other
    /// keeps what it has unless it is told.
    pub(crate) fn pick_written(process: usize, random: &mut fastrand::Rng) -> Self {
        loop {
            let key = Self::pick(random);
            match key.0 % 3 {
                0 => {}
                1 => return key,
                _ if key.0 / 3 % 2 == process => return key,
                _ => {}
            }
        }
    }

    pub(crate) fn row(self) -> usize {
        self.0 / Self::IN_ROW
    }

    /// The name of a row.
    pub(crate) fn row_name(row: usize) -> &'static str {
        ROWS[row].0
    }

    pub(crate) fn in_row(self) -> usize {
        self.0 % Self::IN_ROW
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// Whether its values end within a fault.
    pub(crate) fn is_brief(self) -> bool {
        self.row() == 0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", ROWS[self.row()].0, self.in_row())
    }
}
