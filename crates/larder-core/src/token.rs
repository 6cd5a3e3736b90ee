use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Names one attempt to get a lease. No two attempts share one, in any process.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(String);

/// From the system's own randomness, with which the standard library seeds its hash maps.
static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(std::process::id()));
static ATTEMPT: AtomicU64 = AtomicU64::new(0);

impl Token {
    /// Makes a token that nobody else has: a random number for the process and a count within it.
    #[expect(clippy::new_without_default, reason = "two tokens are never equal, so none is the default")]
    pub fn new() -> Self {
        // Relaxed: only the numbers' difference matters.
        let attempt = ATTEMPT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{:016x}{attempt:x}", *PROCESS))
    }

    /// The token as text: lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.0)
    }
}
