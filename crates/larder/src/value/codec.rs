//! Values to bytes and back, with the application's own `Serialize` and `Deserialize` kept from
//! doing harm.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use larder_core::{AnyValue, Codec, CodecError, JsonCodec};
use serde::{Serialize, de::DeserializeOwned};

/// What a type needs to be cached: it can be written as JSON and read back, and shared between
/// threads.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// The two functions that turn the values of one policy into bytes and back. They are chosen once,
/// where the type is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ValueCodec {
    encode: fn(&(dyn Any + Send + Sync), &mut Vec<u8>) -> Result<(), CodecError>,
    decode: fn(&[u8]) -> Result<Option<AnyValue>, CodecError>,
}

impl ValueCodec {
    /// The codec of a policy for which no cache has been asked, so that it has no values either.
    pub(crate) const NONE: Self = Self { encode: |_, _| Err(untyped()), decode: |_| Err(untyped()) };

    /// Values of this type as JSON.
    pub(crate) fn of<T: Value>() -> Self {
        Self { encode: encode::<T>, decode: decode::<T> }
    }

    /// Reads a value; `None` stands for "known to be absent".
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Option<AnyValue>, CodecError> {
        (self.decode)(bytes)
    }

    /// Appends the bytes that stand for a value, or for "known to be absent".
    pub(crate) fn encode(self, value: Option<&AnyValue>, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
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

fn encode<T: Value>(value: &(dyn Any + Send + Sync), bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let value = value.downcast_ref::<T>().ok_or_else(untyped)?;
    let start = bytes.len();
    guarded(|| JsonCodec.encode(value, bytes))?;
    if &bytes[start..] == JsonCodec.absent() {
        let problem = "its JSON is null, which stands for \"absent\": load it with find_or_load";
        return Err(CodecError::new(problem));
    }
    Ok(())
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
