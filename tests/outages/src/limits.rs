use std::{fmt, time::Duration};

use larder::{Policy, RedisConfig, TableError, TtlTable};

/// The time after its limit at which a call has certainly taken too long. A smaller excess may be
/// the machine's own delay.
pub(crate) const GRACE: Duration = Duration::from_millis(100);
/// The number of callers of each kind in a process.
pub(crate) const READERS: u64 = 8;
pub(crate) const WRITERS: u64 = 3;
/// A lifetime shorter than a fault: a value that is not written is loaded again, or served stale.
pub(crate) const BRIEF_TTL: Duration = Duration::from_secs(1);
const COMMAND_TIMEOUT: Duration = Duration::from_millis(300);
/// The writer's own time limit, as the documentation asks: larder has none for writers.
pub(crate) const WRITER_LIMIT: Duration = Duration::from_millis(300);

/// The policies: one whose values end within a fault, and one whose values outlive the run, so that
/// no old value goes unseen at its end.
const POLICIES: [(&str, &str); 2] = [("brief", "1s"), ("lasting", "1h")];
const LIMITS: &str = r#"jitter = "0%"
load_timeout = "400ms"
max_wait = "400ms"
lease = "500ms"
degraded_l1_ttl = "300ms"
"#;
const STALE_FOR: &str = "stale_for = \"30s\"";

/// The table of a cell.
pub(crate) fn table(stale_for: bool) -> Result<TtlTable, TableError> {
    TtlTable::from_toml(&policies(if stale_for { STALE_FOR } else { "" }))
}

/// The policies as the report shows them.
pub(crate) fn shown() -> String {
    policies(&format!("{STALE_FOR} # in half of the cells"))
}

fn policies(more: &str) -> String {
    POLICIES
        .map(|(name, ttl)| format!("[{name}]\nttl = \"{ttl}\"\n{LIMITS}{more}\n"))
        .join("\n")
}

/// The Redis configuration of a member.
pub(crate) fn redis(url: String) -> RedisConfig {
    RedisConfig::new(url)
        .lanes(2)
        .command_timeout(COMMAND_TIMEOUT)
        .connect_timeout(Duration::from_millis(300))
        .ping_interval(Duration::from_millis(50))
        .probe_interval(Duration::from_millis(200))
}

/// The longest time that a read may take in any cell.
///
/// A read looks into L2, asks for the lease each time that it is woken, loads, commits, and reads
/// the committed value back. Of these:
/// - one command at most waits for its whole time-out: that loses the lane, and on a lane that is
///   down every further call fails at once. Commands that are answered late have the same time
///   together: their number, some five, times the server's delay is below it;
/// - all waits, for another load's lease and for a load permit, share one `max_wait`, which
///   counts from before the first claim;
/// - the loader runs once, for `load_timeout` at most: a caller that gives up waiting for another
///   load has not loaded before.
///
/// A caller that joined a load after it began starts over if the key is invalidated meanwhile
/// (P16 only-for-earlier-callers). That gives it no more time: it then waits for others only for
/// the rest of its `max_wait`, and after that shares a load that keeps nothing. A caller that came
/// after an invalidation does not wait for the outdated load: a current load runs beside it. Only
/// where both are outdated, a third load waits, within the same time, for one of them to end. The
/// load that keeps nothing waits for it after that time too, and is next. All of this is within the
/// limit as long as two loaders, one after the other, need less than `load_timeout` plus the rest
/// of the time-out that late commands leave. A loader that takes longer has met its own limit, or
/// nearly.
pub fn longest_read(policy: &Policy) -> Duration {
    COMMAND_TIMEOUT + policy.max_wait() + policy.load_timeout()
}

/// The longest time that a write or an invalidation may take: one `max_write_wait` for other
/// writers' leases, the writer itself, and one command without a reply. After that, invalidations
/// are remembered as unsent.
pub fn longest_write(policy: &Policy) -> Duration {
    policy.max_write_wait() + WRITER_LIMIT + COMMAND_TIMEOUT
}

/// One of the keys that a cell uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(usize);

impl Key {
    const PER_POLICY: usize = 12;
    pub(crate) const COUNT: usize = Self::PER_POLICY * POLICIES.len();

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// Picks a key to read, some more often than others.
    pub(crate) fn pick(random: &mut fastrand::Rng) -> Self {
        let number = random
            .usize(0..Self::PER_POLICY)
            .min(random.usize(0..Self::PER_POLICY));
        Self(random.usize(0..POLICIES.len()) * Self::PER_POLICY + number)
    }

    /// Picks a key for a process to write. A third of the keys is never written, so that values
    /// expire and are served stale. A third is written by one process only, so that the other one
    /// keeps its copy unless a push comes.
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

    /// The index of its policy.
    pub(crate) fn policy(self) -> usize {
        self.0 / Self::PER_POLICY
    }

    /// The name of a policy.
    pub(crate) fn policy_name(policy: usize) -> &'static str {
        POLICIES[policy].0
    }

    /// Its number within the policy.
    pub(crate) fn number(self) -> usize {
        self.0 % Self::PER_POLICY
    }

    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// Whether its values end within a fault.
    pub(crate) fn is_brief(self) -> bool {
        self.policy() == 0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", POLICIES[self.policy()].0, self.number())
    }
}
