use std::hash::{BuildHasherDefault, Hash, Hasher};

use equivalent::Equivalent;
use smol_str::SmolStr;

use crate::key::{
    hash::{KeyRef, is_same},
    owned::Key,
};

/// A key as an in-process map owns it, looked up with a [`KeyRef`].
///
/// A text of up to 23 bytes lies in the map itself, so that a hit follows one pointer less.
///
/// # Examples
/// ```
/// use std::hash::BuildHasher;
/// use larder_core::{Key, LocalKey, PassThrough};
///
/// let key = Key::from_stored_name("user:42");
/// let local = LocalKey::from(&key);
/// assert_eq!(local.as_ref(), key.as_ref());
/// assert_eq!(PassThrough::default().hash_one(&local), key.hash().0); // hashed once
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalKey(SmolStr);

/// Makes hashers for keys that bring their hash with them.
///
/// A key is then hashed once, however many structures it is looked up in.
pub type PassThrough = BuildHasherDefault<KeptHash>;

/// A hasher that returns the hash which it is fed. [`PassThrough`] makes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptHash(u64);

impl LocalKey {
    /// Borrows the key with its hash.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef::new(&self.0)
    }
}

impl From<&Key> for LocalKey {
    fn from(key: &Key) -> Self {
        Self(key.text().clone())
    }
}

/// Feeds the finished hash, as [`Key`] and [`KeyRef`] do.
///
/// It is computed anew instead of kept in each entry: a map asks for it when the map changes, not
/// when it is looked into.
impl Hash for LocalKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.as_ref().hash().0);
    }
}

impl Equivalent<LocalKey> for KeyRef<'_> {
    #[inline]
    fn equivalent(&self, key: &LocalKey) -> bool {
        is_same(self.as_bytes(), key.0.as_bytes())
    }
}

impl Hasher for KeptHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `write_u64` is ever called. To fold other bytes keeps this a hash all the same.
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
            let key = Key::from_stored_name(text.as_str());
            let local = LocalKey::from(&key);
            let hashes = [
                PassThrough::default().hash_one(&key),
                PassThrough::default().hash_one(key.as_ref()),
                PassThrough::default().hash_one(&local),
                PassThrough::default().hash_one(local.as_ref()),
            ];
            assert_eq!(hashes, [key.hash().0; 4]);
            assert!(key.as_ref().equivalent(&local));
            assert!(!KeyRef::new("user:43").equivalent(&local));
        }
    }
}
