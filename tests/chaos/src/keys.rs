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

    [stale]
    ttl = "300ms"
    stale_for = "1h"
    soft_timeout = "3ms"
    lease = "1s"
    max_wait = "5s"

    [large]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"

    [grouped]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"
    levels = "l2"

    [guest]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"
    levels = "l2"

    [beacon]
    ttl = "1h"
    lease = "1s"
    max_wait = "5s"
    levels = "l2"
"#;

/// The policy of the entries by which a node tells whether it reaches every server.
pub(crate) const BEACON: &str = "beacon";

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
    /// Both levels, with values that are soon stale, and kept for long.
    Stale,
    /// Both levels, with values that travel out of band.
    Large,
    /// L2 alone; some entries have a tag in common.
    Grouped,
    /// L2 alone, written by a foreign program alone.
    Guest,
}

impl PolicyName {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Item,
        Self::Shared,
        Self::Tagged,
        Self::Instant,
        Self::Foreign,
        Self::Stale,
        Self::Large,
        Self::Grouped,
        Self::Guest,
    ];

    /// Those whose values stay until a process writes or invalidates them.
    pub(crate) const LASTING: [Self; 6] = [
        Self::Item,
        Self::Shared,
        Self::Tagged,
        Self::Instant,
        Self::Large,
        Self::Grouped,
    ];

    /// Those that a foreign program writes.
    pub(crate) const FOREIGN: [Self; 2] = [Self::Foreign, Self::Guest];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Item => "item",
            Self::Shared => "shared",
            Self::Tagged => "tagged",
            Self::Instant => "instant",
            Self::Foreign => "foreign",
            Self::Stale => "stale",
            Self::Large => "large",
            Self::Grouped => "grouped",
            Self::Guest => "guest",
        }
    }

    /// Whether its values are in L2 alone, so that a read is never given what was replaced.
    pub fn is_without_l1(self) -> bool {
        matches!(self, Self::Shared | Self::Grouped | Self::Guest)
    }

    /// Whether its values have tags.
    pub fn has_tags(self) -> bool {
        matches!(self, Self::Grouped)
    }

    /// How many of its keys are used often, and how many in all.
    fn sizes(self) -> (u16, u16) {
        match self {
            Self::Large => (6, 12),
            _ => (24, IN_POLICY),
        }
    }
}

/// One of two applications on the one server. Both have the same policies, keys and tags; only
/// their namespaces differ, and the rights of their users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// The first one. The server pushes to it.
    North,
    /// The second one. It may not use tracking, so its processes tell each other over the bus.
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

    /// The user as which it logs in, for a URL.
    pub(crate) fn login(self) -> &'static str {
        match self {
            Self::North => "",
            Self::South => "south:south@",
        }
    }
}

/// One of the keys that the nodes use, in one of the namespaces. The same key in both namespaces is
/// two of these, so that a value which crosses over is found by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key(pub u16);

/// Keys of each policy.
pub(crate) const IN_POLICY: u16 = 120;
#[expect(clippy::cast_possible_truncation, reason = "there are few policies")]
const IN_NAMESPACE: u16 = PolicyName::ALL.len() as u16 * IN_POLICY;
/// Tags of each namespace. Each has keys that are used often, and others.
const TAGS: u16 = 8;
/// 70,000 bytes: more than a lane reads of a value.
const LARGE: usize = 70_000;

impl Key {
    /// The number of keys in both namespaces.
    pub const COUNT: usize = IN_NAMESPACE as usize * Namespace::ALL.len();

    /// All keys of a policy.
    pub fn all(namespace: Namespace, policy: PolicyName) -> impl Iterator<Item = Self> {
        (0..IN_POLICY).map(move |in_policy| Self::of(namespace, policy, in_policy))
    }

    /// A key by its parts.
    pub fn of(namespace: Namespace, policy: PolicyName, in_policy: u16) -> Self {
        Self(namespace as u16 * IN_NAMESPACE + policy as u16 * IN_POLICY + in_policy % IN_POLICY)
    }

    /// A random key of a policy: some are used often, and most seldom.
    pub(crate) fn pick(
        namespace: Namespace,
        policy: PolicyName,
        random: &mut fastrand::Rng,
    ) -> Self {
        let (hot, all) = policy.sizes();
        let in_policy = if random.u8(0..10) < 6 {
            (0..5).map(|_| random.u16(0..hot)).min().unwrap_or(0)
        } else {
            random.u16(0..all)
        };
        Self::of(namespace, policy, in_policy)
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
    pub fn in_policy(self) -> u16 {
        self.0 % IN_POLICY
    }

    /// Its tag, if it has one.
    pub fn tag(self) -> Option<String> {
        let number = self.in_policy() % TAGS;
        match self.policy() {
            PolicyName::Tagged => Some(format!("tagged:{number}")),
            PolicyName::Grouped => Some(format!("grouped:{number}")),
            _ => None,
        }
    }

    /// Another one with the same tag.
    pub(crate) fn neighbour(self, random: &mut fastrand::Rng) -> Self {
        let place = random.u16(0..IN_POLICY / TAGS) * TAGS + self.in_policy() % TAGS;
        Self::of(self.namespace(), self.policy(), place)
    }

    /// Its place among all keys.
    pub fn index(self) -> usize {
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
    /// The size of a large value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) padding: String,
}

impl Versioned {
    pub(crate) fn new(key: Key, version: u32) -> Self {
        let padding = match key.policy() {
            PolicyName::Large => "x".repeat(LARGE),
            _ => String::new(),
        };
        Self {
            key,
            version,
            padding,
        }
    }
}
