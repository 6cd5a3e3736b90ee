//! Values to bytes and back, with the application's own `Serialize` and `Deserialize` kept from doing harm.

use std::panic::{AssertUnwindSafe, catch_unwind};

use larder_core::{Codec, CodecError, JsonCodec};
use serde::{Serialize, de::DeserializeOwned};

/// What a type needs to be cached: it can be written as JSON and read back, and shared between threads.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// Reads a value; `None` says that it is known to be absent.
pub(crate) fn decode<T: Value>(bytes: &[u8]) -> Result<Option<T>, CodecError> {
    guarded(|| JsonCodec.decode(bytes))
}

/// Appends the bytes that stand for a value, or for the knowledge that there is none.
pub(crate) fn encode<T: Value>(value: Option<&T>, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
    let Some(value) = value else {
        bytes.extend(JsonCodec.absent());
        return Ok(());
    };
    let start = bytes.len();
    guarded(|| JsonCodec.encode(value, bytes))?;
    if &bytes[start..] == JsonCodec.absent() {
        let problem = "its JSON is null, which stands for \"absent\": load it with find_or_load";
        return Err(CodecError::new(problem));
    }
    Ok(())
}

/// A panic of the application's code must not take down a task on which other callers wait.
fn guarded<R>(code: impl FnOnce() -> Result<R, CodecError>) -> Result<R, CodecError> {
    catch_unwind(AssertUnwindSafe(code))
        .unwrap_or_else(|_panic| Err(CodecError::new("the type's serde code panicked")))
}
