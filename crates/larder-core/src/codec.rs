use std::fmt::Debug;

use serde::{Serialize, de::DeserializeOwned};

/// Turns values into the bytes that the remote store holds, and back.
pub trait Codec: Debug + Clone + Send + Sync + 'static {
    /// Appends the value's bytes to `out`.
    ///
    /// # Errors
    /// [`CodecError`] if the value cannot be represented, for example a map whose keys are not text in JSON.
    fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Reads a value; `None` says that the bytes stand for "known to be absent".
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not a value of this type.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<Option<T>, CodecError>;

    /// The bytes that stand for "known to be absent".
    fn absent(&self) -> &'static [u8];
}

/// A value that cannot be encoded or decoded. Says where and why, never the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(String);

impl CodecError {
    /// Makes an error with this description, which must not quote the value.
    pub fn new(description: impl Into<String>) -> Self {
        Self(description.into())
    }
}

/// Plain JSON, with `null` for "known to be absent": what `redis-cli GET` shows and other languages read.
///
/// Source: [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259).
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonCodec;

impl Codec for JsonCodec {
    fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, value).map_err(|error| describe(&error))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<Option<T>, CodecError> {
        if bytes.trim_ascii() == self.absent() {
            return Ok(None);
        }
        serde_json::from_slice(bytes).map(Some).map_err(|error| describe(&error))
    }

    fn absent(&self) -> &'static [u8] {
        b"null"
    }
}

/// serde's own message can quote the value (`invalid type: string "secret"`), so only the kind and place are kept.
fn describe(error: &serde_json::Error) -> CodecError {
    let kind = match error.classify() {
        serde_json::error::Category::Io => "the value could not be written as JSON",
        serde_json::error::Category::Syntax => "the bytes are not JSON",
        serde_json::error::Category::Data => "the JSON is not of the expected type",
        serde_json::error::Category::Eof => "the JSON ends too early",
    };
    CodecError(format!("{kind} (line {}, column {})", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_round_trips_as_plain_json() {
        let mut bytes = Vec::new();
        JsonCodec.encode(&("Ada", 36), &mut bytes).unwrap();
        assert_eq!(bytes, br#"["Ada",36]"#);
        assert_eq!(JsonCodec.decode::<(String, u32)>(&bytes), Ok(Some(("Ada".to_owned(), 36))));
    }

    #[test]
    fn null_is_known_to_be_absent() {
        assert_eq!(JsonCodec.decode::<u32>(b" null\n"), Ok(None));
    }

    #[test]
    fn wrong_type_says_where_without_the_value() {
        let error = JsonCodec.decode::<u32>(br#""top secret""#).unwrap_err();
        assert_eq!(error.to_string(), "the JSON is not of the expected type (line 1, column 12)");
    }
}
