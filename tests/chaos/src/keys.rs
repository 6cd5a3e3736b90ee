use std::fmt;

use serde::{Deserialize, Serialize};

/// The policies of the TTL table that the nodes use. Lifetimes are longer than a run, so that nothing
/// old goes unseen; leases are short, so that a stopped process outlives its own.
pub(crate) const TABLE: &str = r#"
    [item]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"

    [shared]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"
    levels = "l2"

    [tagged]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"

    [instant]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"
    instant_clear = true

    [foreign]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"
"#;

/// The kinds of data, each with a policy of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyName {
    /// Both levels.
    Item,
    /// L2 alone.
    Shared,
    /// Both levels; some entries have a tag in common.
    Tagged,
    /// Both levels, cleared in one step.
    Instant,
    /// Both levels, written by a foreign program alone.
    Foreign,
}

impl PolicyName {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Item,
        Self::Shared,
        Self::Tagged,
        Self::Instant,
        Self::Foreign,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Shared => "shared",
            Self::Tagged => "tagged",
            Self::Instant => "instant",
            Self::Foreign => "foreign",
        }
    }
}

/// One of the keys that the nodes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub u16);

const IN_POLICY: u16 = 24;
const IN_GROUP: u16 = 4;

impl Key {
    /// How many there are.
    pub const COUNT: usize = IN_POLICY as usize * PolicyName::ALL.len();

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..).map(Self).take(Self::COUNT)
    }

    /// One of a policy, some more often than others.
    pub(crate) fn pick(policy: PolicyName, random: &mut fastrand::Rng) -> Self {
        let skewed = (0..5).map(|_| random.u16(0..IN_POLICY)).min();
        Self(policy as u16 * IN_POLICY + skewed.unwrap_or(0))
    }

    /// Its policy.
    pub fn policy(self) -> PolicyName {
        PolicyName::ALL[usize::from(self.0 / IN_POLICY) % PolicyName::ALL.len()]
    }

    /// Its place in its policy: the key that the cache is asked for.
    pub(crate) fn in_policy(self) -> u16 {
        self.0 % IN_POLICY
    }

    /// Its tag, if it has one.
    pub(crate) fn tag(self) -> Option<String> {
        (self.policy() == PolicyName::Tagged)
            .then(|| format!("group:{}", self.in_policy() / IN_GROUP))
    }

    /// Another one with the same tag.
    pub(crate) fn neighbour(self) -> Self {
        let group = self.0 - self.0 % IN_GROUP;
        Self(group + (self.0 + 1) % IN_GROUP)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0) % Self::COUNT
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.policy().name(), self.in_policy())
    }
}

/// What is cached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) key: Key,
    pub(crate) version: u32,
}
