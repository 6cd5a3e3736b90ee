//! The table that the tests and their worker processes share, and the README, whose example is a doc test.

/// Rows without jitter, so that lifetimes are exact. `brief` has a short lease, for tests of dying processes.
pub const TABLE: &str = r#"
    [item]
    ttl = "10m"
    jitter = "0%"
    negative_ttl = "5m"

    [other]
    ttl = "10m"
    jitter = "0%"

    [shared]
    ttl = "10m"
    jitter = "0%"
    levels = "l2"

    [brief]
    ttl = "10m"
    jitter = "0%"
    lease = "1s"
    max_wait = "20s"
    load_timeout = "60s"

    [patient]
    ttl = "10m"
    jitter = "0%"
    lease = "60s"
    max_wait = "50s"
    load_timeout = "60s"

    [impatient]
    ttl = "10m"
    jitter = "0%"
    lease = "60s"
    max_wait = "50ms"
    load_timeout = "60s"

    [local]
    ttl = "10m"
    jitter = "0%"
    levels = "l1"

    [framed]
    ttl = "10m"
    jitter = "0%"
    negative_ttl = "5m"
    framed = true

    [hasty]
    ttl = "10m"
    jitter = "0%"
    lease = "60s"
    max_wait = "50ms"
    load_timeout = "100ms"
"#;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
