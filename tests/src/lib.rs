//! A TTL table and an outbox that the tests share with their worker processes. The README's example
//! is a doc test here.

mod outbox;

pub use outbox::FolderOutbox;

/// The policies of a worker process, without jitter, so that lifetimes are exact. `brief` has a
/// short lease, for tests of processes that die.
pub const TABLE: &str = r#"
    [item]
    ttl = "10m"
    jitter = "0%"

    [brief]
    ttl = "10m"
    jitter = "0%"
    lease = "1s"
    max_wait = "20s"
    load_timeout = "60s"
"#;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
