//! The names that a store's own keys have in Redis.
//!
//! - D(k) is the value's key itself, as the caller wrote it.
//! - L(k) holds the lease of D(k), in the same hash slot.
//! - E is the tag epoch.
//! - T(t) holds the epoch at which the tag t was pinned.

use std::borrow::Cow;

use crate::command::slots::{hash_tag, number_in_slot, slot};

/// The text after the namespace in the name of each key that the store writes by itself.
const OWN: &str = "larder:";
/// The lease of a key without braces: its hash tag is the whole key.
const PLAIN_LEASE: &str = "lease:{";
/// The lease of a key with a hash tag of its own, which the lease's name repeats.
const TAGGED_LEASE: &str = "lease-tagged:";
/// The lease of a key with braces but without a hash tag: a number from the same slot is the
/// lease's hash tag.
const SLOTTED_LEASE: &str = "lease-slot:{";
/// All tags lie in one hash slot, because one atomic step pins them and reads the epoch.
const EPOCH: &str = "{tags}";
const TAG: &str = "{tags}:";
const PROBE: &str = "probe:";

/// The names of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// `[{namespace}/]larder:`
    own: Box<str>,
    epoch: Box<str>,
}

/// The meaning of a name in Redis.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Value(&'a str),
    Lease(Cow<'a, str>),
    TagEpoch,
    Tag(&'a str),
}

impl Names {
    /// The names in this namespace; the empty one is no namespace.
    pub(crate) fn new(namespace: &str) -> Self {
        let own = if namespace.is_empty() {
            OWN.to_owned()
        } else {
            format!("{namespace}/{OWN}")
        };
        Self {
            epoch: format!("{own}{EPOCH}").into(),
            own: own.into(),
        }
    }

    /// The pattern of all names that the store writes by itself.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.own)
    }

    /// Tells what a name stands for.
    pub(crate) fn parse<'a>(&self, name: &'a str) -> Name<'a> {
        let Some(own) = name.strip_prefix(&*self.own) else {
            return Name::Value(name);
        };
        if own == EPOCH {
            Name::TagEpoch
        } else if let Some(tag) = own.strip_prefix(TAG) {
            Name::Tag(tag)
        } else {
            leased_key(own).map_or(Name::Value(name), Name::Lease)
        }
    }

    /// L(k): the name of the key's lease.
    pub(crate) fn lease(&self, key: &str) -> String {
        if !key.contains(['{', '}']) && !key.is_empty() {
            let mut name =
                String::with_capacity(self.own.len() + PLAIN_LEASE.len() + key.len() + 1);
            [&self.own, PLAIN_LEASE, key, "}"]
                .into_iter()
                .for_each(|part| name.push_str(part));
            return name;
        }
        let own = &self.own;
        if hash_tag(key).is_some() {
            return format!("{own}{TAGGED_LEASE}{key}");
        }
        format!("{own}{SLOTTED_LEASE}{}}}:{key}", number_in_slot(slot(key)))
    }

    /// The key whose lease has this name; `None` for any other name.
    pub(crate) fn key_of_lease<'a>(&self, name: &'a str) -> Option<Cow<'a, str>> {
        leased_key(name.strip_prefix(&*self.own)?)
    }

    /// The beginning of every lease's name.
    pub(crate) fn leases(&self) -> String {
        format!("{}lease", self.own)
    }

    /// E: the name of the tag epoch.
    pub(crate) fn epoch(&self) -> &str {
        &self.epoch
    }

    /// T(t): the name under which a tag is pinned.
    pub(crate) fn tag(&self, tag: &str) -> String {
        format!("{}{TAG}{tag}", self.own)
    }

    /// The beginning of the name of every T(t).
    pub(crate) fn tags(&self) -> String {
        self.tag("")
    }

    /// The beginning of the name of every key that a probe reads and writes.
    pub(crate) fn probes(&self) -> String {
        format!("{}{PROBE}", self.own)
    }

    /// Tells whether a name is that of a probe's key.
    pub(crate) fn is_probe(&self, name: &str) -> bool {
        name.strip_prefix(&*self.own)
            .is_some_and(|own| own.starts_with(PROBE))
    }

    /// The channel on which processes publish what they change, for each database of a server.
    pub(crate) fn channel(&self, db: i64) -> String {
        format!("{}bus:{db}", self.own)
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new("")
    }
}

/// The key whose lease has this name, which is given without its namespace.
fn leased_key(own: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = own.strip_prefix(PLAIN_LEASE) {
        return rest.strip_suffix('}').map(Cow::Borrowed);
    }
    if let Some(key) = own.strip_prefix(TAGGED_LEASE) {
        return Some(Cow::Borrowed(key));
    }
    let (_, key) = own.strip_prefix(SLOTTED_LEASE)?.split_once("}:")?;
    Some(Cow::Borrowed(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 10] = [
        "user:42",
        "user:{a}:b",
        "user:a}b",
        "user:{}",
        "user:}{",
        "user:{",
        "user:{}{x}",
        "ü",
        "",
        "user:{a",
    ];

    fn both() -> [Names; 2] {
        [Names::default(), Names::new("shop.v1")]
    }

    #[test]
    fn lease_lies_in_the_slot_of_its_key() {
        for names in both() {
            for key in KEYS {
                assert_eq!(
                    slot(&names.lease(key)),
                    slot(key),
                    "{key:?} {:?}",
                    names.lease(key)
                );
            }
        }
        assert_eq!(Names::default().lease("user:42"), "larder:lease:{user:42}");
        assert_eq!(
            Names::new("shop").lease("shop/user:42"),
            "shop/larder:lease:{shop/user:42}"
        );
    }

    #[test]
    fn lease_names_lead_back_to_their_keys() {
        for names in both() {
            for key in KEYS {
                assert_eq!(names.key_of_lease(&names.lease(key)).as_deref(), Some(key));
                assert!(names.lease(key).starts_with(&names.leases()));
            }
            assert_eq!(names.key_of_lease("user:42"), None);
        }
    }

    #[test]
    fn names_lead_back_to_what_they_stand_for() {
        for names in both() {
            assert_eq!(names.parse("user:42"), Name::Value("user:42"));
            assert_eq!(
                names.parse(&names.lease("user:42")),
                Name::Lease("user:42".into())
            );
            assert_eq!(names.parse(names.epoch()), Name::TagEpoch);
            assert_eq!(names.parse(&names.tag("org:7")), Name::Tag("org:7"));
            assert_eq!(slot(&names.tag("}{")), slot(names.epoch()));
        }
    }

    #[test]
    fn own_names_of_one_namespace_are_nothing_to_another() {
        let [none, shop] = both();
        let blog = Names::new("blog");
        for (one, other) in [(&none, &shop), (&shop, &none), (&shop, &blog)] {
            for name in [
                one.lease("user:42"),
                one.tag("org:7"),
                one.epoch().to_owned(),
            ] {
                assert_eq!(other.parse(&name), Name::Value(&name));
                assert_eq!(other.key_of_lease(&name), None);
            }
            for (ours, theirs) in [(one.leases(), other.leases()), (one.tags(), other.tags())] {
                assert!(!ours.starts_with(&theirs), "{ours} {theirs}");
            }
            assert_ne!(one.channel(0), other.channel(0));
            assert_ne!(one.probes(), other.probes());
        }
        assert_ne!(shop.channel(0), shop.channel(1));
    }
}
