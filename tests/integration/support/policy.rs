use std::time::Duration;

use larder::{Larder, LarderBuilder, TtlTable};
use larder_ttl::{Policy, PolicyBuilder};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The policy `item`: 10 minutes in both levels, without jitter, so that lifetimes are exact. A
/// loader may take a minute, longer than a test holds one at a gate.
pub(crate) fn policy() -> PolicyBuilder {
    named("item")
}

/// Like [`policy`], under another name, for a larder with several.
pub(crate) fn named(name: &str) -> PolicyBuilder {
    Policy::builder(name, 10 * MINUTE)
        .jitter(0.0)
        .load_timeout(MINUTE)
}

/// Begins a process with the policies `item` and `other`.
pub(crate) fn builder() -> LarderBuilder {
    builder_of(&[policy(), named("other")])
}

/// Begins a process with these policies and no others.
pub(crate) fn builder_of(policies: &[PolicyBuilder]) -> LarderBuilder {
    let mut table = TtlTable::empty();
    for policy in policies {
        table = table.with(policy.clone().build().unwrap()).unwrap();
    }
    Larder::builder().ttl_table(table)
}

/// Values are served for ten minutes past their time, while they are loaded anew.
pub(crate) fn stale() -> PolicyBuilder {
    policy().stale_for(10 * MINUTE)
}

/// Like [`stale`], after a wait of 200 ms for the load.
pub(crate) fn soft() -> PolicyBuilder {
    stale().soft_timeout(ms(200))
}
