use std::hash::{BuildHasherDefault, Hash, Hasher};

use compact_str::CompactString;
use equivalent::Equivalent;

use crate::{Key, KeyRef};

/// A key as an in-process map owns it: a short text lies beside its hash, so that a hit follows one pointer less. It is
/// looked up with a [`KeyRef`].
#[derive(Clone, Debug)]
pub struct LocalKey {
    hash: u64,
    text: CompactString,
}

/// Makes hashers for keys that bring their hash with them, so that a key is hashed once however many structures it is
/// looked up in.
pub type PassThrough = BuildHasherDefault<KeptHash>;

/// The hasher that [`PassThrough`] makes.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptHash(u64);

impl LocalKey {
    /// Borrows the key with its hash.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef::hashed(self.hash, &self.text)
    }
}

impl From<&Key> for LocalKey {
    fn from(key: &Key) -> Self {
        Self { hash: key.hash(), text: key.as_str().into() }
    }
}

impl PartialEq for LocalKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for LocalKey {}

/// Feeds the finished hash, as [`Key`] and [`KeyRef`] do.
impl Hash for LocalKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<LocalKey> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &LocalKey) -> bool {
        self.as_str() == key.text.as_str()
    }
}

impl Hasher for KeptHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is ever called; folding whatever else may come keeps this a hash all the same.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn owned_and_borrowed_keys_are_found_by_the_same_hash() {
        for text in ["user:42".to_owned(), "x".repeat(100)] {
            let key = Key::from(text.as_str());
            let local = LocalKey::from(&key);
            let hashes = [
                PassThrough::default().hash_one(&key),
                PassThrough::default().hash_one(key.as_ref()),
                PassThrough::default().hash_one(&local),
                PassThrough::default().hash_one(local.as_ref()),
            ];
            assert_eq!(hashes, [key.hash(); 4]);
            assert!(key.as_ref().equivalent(&local));
            assert!(!KeyRef::new("user:43").equivalent(&local));
        }
    }
}
