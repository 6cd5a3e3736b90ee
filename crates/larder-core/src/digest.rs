use std::fmt;

/// The SHA-1 of a stored value, by which a store recognises the bytes that a reader saw.
///
/// It guards against a value that changed meanwhile, not against an adversary: an adversary who can
/// write to the store needs no collision.
///
/// Source:
/// [`redis.sha1hex`](https://redis.io/docs/latest/develop/programmability/lua-api/#redis.sha1hex).
///
/// # Examples
/// ```
/// use larder_core::Digest;
///
/// assert_eq!(Digest::of(b"abc").as_str(), "a9993e364706816aba3e25717850c26c9cd0d89d");
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Digest(String);

impl Digest {
    /// Computes the digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha1_smol::Sha1::from(bytes).hexdigest())
    }

    /// The digest as text: 40 lower-case hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({})", self.0)
    }
}
