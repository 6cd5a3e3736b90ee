use std::fmt;

use serde::{Deserialize, Serialize};

/// The policies of the TTL table that the nodes use. Lifetimes are longer than a run, so that
/// nothing old goes unseen; leases are short, so that a stopped process outlives its own.
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

/// One of two applications on the one server. Both have the same policies, keys and tags; only
/// their namespaces differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// The first one.
    North,
    /// The second one.
    South,
}

impl Namespace {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::North, Self::South];

    /// Its name, which begins every name that it has in Redis.
    pub fn name(self) -> &'static str {
        match self {
            Self::North => "north",
            Self::South => "south",
        }
    }

    /// The namespace of a name, if it is one of these two.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|namespace| namespace.name() == name)
    }
}

/// One of the keys that the nodes use, in one of the namespaces. The same key in both namespaces is
/// two of these, so that a value which crosses over is found by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub u16);

const IN_POLICY: u16 = 24;
const IN_NAMESPACE: u16 = 5 * IN_POLICY;
const IN_GROUP: u16 = 4;

impl Key {
    /// The number of keys in both namespaces.
    pub const COUNT: usize = IN_NAMESPACE as usize * Namespace::ALL.len();

    /// All keys of a namespace.
    pub fn all(namespace: Namespace) -> impl Iterator<Item = Self> {
        (namespace as u16 * IN_NAMESPACE..)
            .map(Self)
            .take(usize::from(IN_NAMESPACE))
    }

    /// A random key of a policy, some more often than others.
    pub(crate) fn pick(
        namespace: Namespace,
        policy: PolicyName,
        random: &mut fastrand::Rng,
    ) -> Self {
        let skewed = (0..5).map(|_| random.u16(0..IN_POLICY)).min();
        Self(namespace as u16 * IN_NAMESPACE + policy as u16 * IN_POLICY + skewed.unwrap_or(0))
    }

    /// Its namespace.
    pub fn namespace(self) -> Namespace {
        Namespace::ALL[usize::from(self.0 / IN_NAMESPACE) % Namespace::ALL.len()]
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
        let (namespace, policy) = (self.namespace().name(), self.policy().name());
        write!(f, "{namespace}/{policy}:{}", self.in_policy())
    }
}

/// The cached value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Versioned {
    pub(crate) key: Key,
    pub(crate) version: u32,
}
