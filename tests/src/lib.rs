//! What the tests and their worker processes share, a table and an outbox, and the README, whose example is a doc test.

mod outbox;

pub use outbox::FolderOutbox;

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
    instant_clear = true

    [hasty]
    ttl = "10m"
    jitter = "0%"
    lease = "60s"
    max_wait = "50ms"
    load_timeout = "100ms"

    [stale]
    ttl = "10m"
    jitter = "0%"
    stale_for = "10m"
    negative_ttl = "5m"
    load_timeout = "60s"

    [soft]
    ttl = "10m"
    jitter = "0%"
    stale_for = "10m"
    soft_timeout = "200ms"
    load_timeout = "60s"

    [stale_shared]
    ttl = "10m"
    jitter = "0%"
    levels = "l2"
    stale_for = "10m"
    load_timeout = "60s"

    [ahead]
    ttl = "10m"
    l1_ttl = "10m"
    jitter = "0%"
    refresh_ahead = "80%"
    load_timeout = "60s"

    [ahead_shared]
    ttl = "10m"
    jitter = "0%"
    levels = "l2"
    refresh_ahead = "80%"
    stale_for = "10m"
    soft_timeout = "5s"
    negative_ttl = "1m"
    load_timeout = "60s"

    [few]
    ttl = "10m"
    jitter = "0%"
    max_loads = 3
    max_wait = "60s"

    [crowded]
    ttl = "10m"
    jitter = "0%"
    max_loads = 1
    max_wait = "50ms"
    stale_for = "10m"
    soft_timeout = "5s"
    load_timeout = "60s"

    [crowded_long]
    ttl = "10m"
    jitter = "0%"
    max_loads = 1
    max_wait = "60s"

    [few_stale]
    ttl = "10m"
    jitter = "0%"
    max_loads = 1
    max_wait = "60s"
    stale_for = "10m"
    load_timeout = "60s"

    [strict]
    ttl = "10m"
    jitter = "0%"
    on_outage = "fail"
"#;

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
