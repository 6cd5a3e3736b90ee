//! Values to bytes and back, with the application's own `Serialize` and `Deserialize` kept from
//! doing harm.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use larder_core::{AnyValue, Codec, CodecError, JsonCodec};
use serde::{Serialize, de::DeserializeOwned};

/// A type that can be cached: it can be written as JSON and read back, and shared between
/// threads.
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct User {
///     name: String,
/// }
///
/// fn can_be_cached<V: larder::Value>() {}
/// can_be_cached::<User>();
/// ```
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// The two functions that turn the values of one policy into bytes and back. They are chosen once,
/// where the type is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueCodec {
    encode: fn(&(dyn Any + Send + Sync), &mut Vec<u8>) -> Result<(), CodecError>,
    decode: fn(&[u8]) -> Result<Option<AnyValue>, CodecError>,
    size: fn(&(dyn Any + Send + Sync)) -> Result<usize, CodecError>,
    check: fn(&[u8]) -> Result<(), CodecError>,
}

/// Decides which values of a policy are read back before they are stored: the first ones, and after
/// one that did not come back as it was, all of them.
#[derive(Debug, Default)]
pub(crate) struct ReadBack(AtomicU32);

/// Values of a policy that are read back before they are stored, 16: enough to notice a type that
/// writes what it cannot read, and next to nothing in a process that stores thousands.
const READ_BACK: u32 = 16;

/// Takes the place of the count for a type of which a value did not come back.
const SUSPECT: u32 = u32::MAX;

impl ReadBack {
    /// Checks the bytes of a value, if it is one of those that are read back.
    pub(crate) fn check(&self, codec: ValueCodec, bytes: &[u8]) -> Result<(), CodecError> {
        // Relaxed: it orders nothing, and a check more or less does not matter.
        let came_back = self.0.load(Ordering::Relaxed);
        if (READ_BACK..SUSPECT).contains(&came_back) {
            return Ok(());
        }
        let checked = (codec.check)(bytes);
        if checked.is_err() {
            self.0.store(SUSPECT, Ordering::Relaxed);
        } else if came_back < READ_BACK {
            let (relaxed, next) = (Ordering::Relaxed, came_back + 1);
            _ = self.0.compare_exchange(came_back, next, relaxed, relaxed);
        }
        checked
    }
}

impl ValueCodec {
    /// The codec of a policy for which no cache has been asked, so that it has no values either.
    pub(crate) const NONE: Self = Self {
        encode: |_, _| Err(untyped()),
        decode: |_| Err(untyped()),
        size: |_| Err(untyped()),
        check: |_| Err(untyped()),
    };

    /// Values of this type as JSON.
    pub(crate) fn of<T: Value>() -> Self {
        Self {
            encode: encode::<T>,
            decode: decode::<T>,
            size: size::<T>,
            check: check::<T>,
        }
    }

    /// Reads a value; `None` stands for "known to be absent".
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Option<AnyValue>, CodecError> {
        (self.decode)(bytes)
    }

    /// The number of bytes of a value's JSON.
    pub(crate) fn size(self, value: &AnyValue) -> Result<usize, CodecError> {
        (self.size)(&**value)
    }

    /// Appends the bytes that stand for a value, or for "known to be absent".
    pub(crate) fn encode(
        self,
        value: Option<&AnyValue>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        match value {
            Some(value) => (self.encode)(&**value, bytes),
            None => {
                bytes.extend(JsonCodec.absent());
                Ok(())
            }
        }
    }
}

fn decode<T: Value>(bytes: &[u8]) -> Result<Option<AnyValue>, CodecError> {
    let value: Option<T> = guarded(|| JsonCodec.decode(bytes))?;
    Ok(value.map(|value| Arc::new(value) as AnyValue))
}

fn encode<T: Value>(
    value: &(dyn Any + Send + Sync),
    bytes: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let value = value.downcast_ref::<T>().ok_or_else(untyped)?;
    let start = bytes.len();
    guarded(|| JsonCodec.encode(value, bytes))?;
    if &bytes[start..] == JsonCodec.absent() {
        let problem = "its JSON is null, which stands for \"absent\": load it with find_or_load";
        return Err(CodecError::new(problem));
    }
    Ok(())
}

fn size<T: Value>(value: &(dyn Any + Send + Sync)) -> Result<usize, CodecError> {
    let value = value.downcast_ref::<T>().ok_or_else(untyped)?;
    guarded(|| JsonCodec.encoded_len(value))
}

/// Checks that the bytes of a value can be read back, and mean the same then.
fn check<T: Value>(bytes: &[u8]) -> Result<(), CodecError> {
    guarded(|| JsonCodec.check::<T>(bytes))
}

/// Turns a panic of the application's code into an error: other callers wait for the task that it
/// would take down.
fn guarded<R>(code: impl FnOnce() -> Result<R, CodecError>) -> Result<R, CodecError> {
    catch_unwind(AssertUnwindSafe(code))
        .unwrap_or_else(|_panic| Err(CodecError::new("the type's serde code panicked")))
}

fn untyped() -> CodecError {
    CodecError::new("the policy holds values of another type")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    /// serde_json writes a flattened map's number keys, and cannot read them.
    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        counts: BTreeMap<u32, u32>,
    }

    fn encoded(value: Flat) -> Vec<u8> {
        let mut bytes = Vec::new();
        ValueCodec::of::<Flat>()
            .encode(Some(&(Arc::new(value) as AnyValue)), &mut bytes)
            .unwrap();
        bytes
    }

    #[test]
    fn first_values_are_read_back_and_all_of_a_type_that_failed() {
        let good = encoded(Flat {
            counts: BTreeMap::new(),
        });
        let bad = encoded(Flat {
            counts: BTreeMap::from([(1, 1)]),
        });
        let codec = ValueCodec::of::<Flat>();
        let (trusted, suspect) = (ReadBack::default(), ReadBack::default());
        for _ in 0..READ_BACK {
            assert_eq!(trusted.check(codec, &good), Ok(()));
        }
        assert_eq!(
            trusted.check(codec, &bad),
            Ok(()),
            "later values cost nothing"
        );
        let error = suspect.check(codec, &bad).unwrap_err().to_string();
        assert!(error.contains("Flat` cannot be read back"), "{error}");
        for _ in 0..2 * READ_BACK {
            assert_eq!(
                suspect.check(codec, &good),
                Ok(()),
                "a good value is stored all the same"
            );
        }
        assert!(suspect.check(codec, &bad).is_err());
    }
}
