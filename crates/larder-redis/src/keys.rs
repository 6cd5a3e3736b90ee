//! The names that keys have in Redis: D(k) is the key itself, L(k) holds its lease in the same hash slot, E the order
//! number of the tags, and T(t) the number under which a tag is held.

use std::borrow::Cow;

/// Source: [cluster specification](https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
pub(crate) const SLOTS: u16 = 16_384;

/// A key without braces: the lease's hash tag is the whole key.
const PLAIN: &str = "larder:lease:{";
/// A key with a hash tag of its own, which the lease's name repeats.
const TAGGED: &str = "larder:lease-tagged:";
/// A key with braces but without a hash tag: a number with the same slot is the lease's hash tag.
const SLOTTED: &str = "larder:lease-slot:{";

/// What begins every lease's name.
pub(crate) const LEASES: &str = "larder:lease";

/// E. All tags lie in one hash slot, because they are held and invalidated together with it.
pub(crate) const ORDER: &str = "larder:{tags}";
/// What begins the name of every T(t).
pub(crate) const TAGS: &str = "larder:{tags}:";

/// What a name in Redis stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    Value(&'a str),
    Lease(Cow<'a, str>),
    Order,
    Tag(&'a str),
}

impl<'a> Name<'a> {
    pub(crate) fn of(name: &'a str) -> Self {
        if name == ORDER {
            Self::Order
        } else if let Some(tag) = name.strip_prefix(TAGS) {
            Self::Tag(tag)
        } else {
            key_of(name).map_or(Self::Value(name), Self::Lease)
        }
    }
}

/// T(t): the name under which a tag is held.
pub(crate) fn tag_of(tag: &str) -> String {
    format!("{TAGS}{tag}")
}

/// The part of a key that decides its slot.
fn hash_tag(key: &str) -> Option<&str> {
    // Each command looks, and keys are short: a plain loop is faster than a search for a `char`.
    let find = |from: usize, byte: u8| key.as_bytes()[from..].iter().position(|at| *at == byte);
    let start = find(0, b'{')? + 1;
    let len = find(start, b'}')?;
    (len > 0).then(|| &key[start..start + len])
}

/// The cluster hash slot of a key.
pub(crate) fn slot(key: &str) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(hash_tag(key).unwrap_or(key).as_bytes()) % SLOTS
}

/// L(k): the name of the key's lease.
pub(crate) fn lease_of(key: &str) -> String {
    if !key.contains(['{', '}']) && !key.is_empty() {
        return format!("{PLAIN}{key}}}");
    }
    if hash_tag(key).is_some() {
        return format!("{TAGGED}{key}");
    }
    format!("{SLOTTED}{}}}:{key}", in_slot(slot(key)))
}

/// A number that, as a hash tag, lies in this slot.
pub(crate) fn in_slot(sought: u16) -> u32 {
    // Every slot is hit by some number below a million; the fallback would only cost a cluster its atomicity.
    (0..1_000_000).find(|n: &u32| slot(&n.to_string()) == sought).unwrap_or_default()
}

/// The key whose lease has this name; `None` if it is not a lease's name.
pub(crate) fn key_of(lease: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = lease.strip_prefix(PLAIN) {
        return rest.strip_suffix('}').map(Cow::Borrowed);
    }
    if let Some(key) = lease.strip_prefix(TAGGED) {
        return Some(Cow::Borrowed(key));
    }
    let (_, key) = lease.strip_prefix(SLOTTED)?.split_once("}:")?;
    Some(Cow::Borrowed(key))
}

/// A pattern for `SCAN MATCH` that matches exactly the texts which begin with `prefix`.
pub(crate) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('*');
    pattern
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

    #[test]
    fn lease_lies_in_the_slot_of_its_key() {
        for key in KEYS {
            assert_eq!(slot(&lease_of(key)), slot(key), "{key:?} {:?}", lease_of(key));
        }
        assert_eq!(lease_of("user:42"), "larder:lease:{user:42}");
    }

    #[test]
    fn lease_names_lead_back_to_their_keys() {
        for key in KEYS {
            assert_eq!(key_of(&lease_of(key)).as_deref(), Some(key));
        }
        assert_eq!(key_of("user:42"), None);
    }

    #[test]
    fn names_lead_back_to_what_they_stand_for() {
        assert_eq!(Name::of("user:42"), Name::Value("user:42"));
        assert_eq!(Name::of(&lease_of("user:42")), Name::Lease("user:42".into()));
        assert_eq!((Name::of(ORDER), Name::of(&tag_of("org:7"))), (Name::Order, Name::Tag("org:7")));
        assert_eq!(slot(&tag_of("}{")), slot(ORDER));
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot("123456789"), 0x31C3);
        assert_eq!(slot("{user1000}.following"), slot("{user1000}.followers"));
        assert_ne!(slot("foo{}{bar}"), slot("bar"));
    }

    #[test]
    fn pattern_escapes_what_matches_more() {
        assert_eq!(pattern("a*[b]?\\:"), "a\\*\\[b\\]\\?\\\\:*");
    }
}
