//! The keys of the simulation, and the namespace in which larder has them.

use std::{collections::HashSet, sync::OnceLock};

use larder_chaos::{Key, Namespace, PolicyName};
use larder_core::KeyRef;

/// The places of keys in their policies. Two of them have the same tag, and the last one another
/// lane.
const PLACES: [u16; 3] = [0, 8, 1];

/// The policies of the simulation. No server that it has sends large values out of band.
pub(crate) const POLICIES: [PolicyName; 8] = [
    PolicyName::Item,
    PolicyName::Shared,
    PolicyName::Tagged,
    PolicyName::Instant,
    PolicyName::Foreign,
    PolicyName::Stale,
    PolicyName::Grouped,
    PolicyName::Guest,
];

/// All keys of a policy.
pub(crate) fn keys(policy: PolicyName) -> impl Iterator<Item = Key> {
    PLACES
        .into_iter()
        .map(move |place| Key::of(Namespace::North, policy, place))
}

/// The full name of a key.
pub(crate) fn full(namespace: &str, key: Key) -> String {
    format!("{namespace}/{}:{}", key.policy().name(), key.in_policy())
}

/// The bits of a key's hash by which a process chooses its generation, 16.
const GENERATION: u64 = 0xffff;

/// A namespace in which no two keys share a generation.
///
/// Each process of this machine hashes keys in its own way, so that whether two keys share one is
/// by chance. Without such a namespace a seed would not say all about a history.
pub(crate) fn namespace() -> &'static str {
    static NAMESPACE: OnceLock<String> = OnceLock::new();
    NAMESPACE.get_or_init(|| {
        let differ = |namespace: &String| {
            let mut seen = HashSet::new();
            let mut all = POLICIES.into_iter().flat_map(keys);
            all.all(|key| {
                let hash = KeyRef::new(&full(namespace, key)).hash().0;
                seen.insert(hash & GENERATION)
            })
        };
        let mut namespaces = (0_u32..).map(|number| format!("s{number}"));
        namespaces.find(differ).unwrap_or_default()
    })
}
