use std::{any::type_name, cell::Cell, fmt::Debug, io};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Serializer, Value, error::Category, ser::Formatter};

use crate::finite::is_finite;

/// Turns values into the bytes that the remote store holds, and back.
///
/// # Examples
/// ```
/// use larder_core::{Codec, JsonCodec};
///
/// let mut bytes = Vec::new();
/// JsonCodec.encode(&("Ada", 36), &mut bytes)?;
/// assert_eq!(bytes, br#"["Ada",36]"#);
/// assert_eq!(JsonCodec.decode::<(String, u32)>(&bytes)?, Some(("Ada".to_owned(), 36)));
/// assert_eq!(JsonCodec.decode::<u32>(JsonCodec.absent())?, None);
/// # Ok::<(), larder_core::CodecError>(())
/// ```
pub trait Codec: Debug + Clone + Send + Sync + 'static {
    /// Appends the value's bytes to `out`.
    ///
    /// # Errors
    /// [`CodecError`] if the value cannot be represented, as a map whose keys are no text in JSON.
    fn encode<T: Serialize + ?Sized>(&self, value: &T, out: &mut Vec<u8>)
    -> Result<(), CodecError>;

    /// Reads a value. `None` says that the bytes stand for "known to be absent".
    ///
    /// # Errors
    /// [`CodecError`] if the bytes are not a value of this type.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<Option<T>, CodecError>;

    /// The bytes that stand for "known to be absent".
    fn absent(&self) -> &'static [u8];

    /// Tells whether two encodings are of the same value. By default, whether they are equal.
    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        one == other
    }

    /// Checks that these bytes, an encoding of a `T`, can be read back and mean the same then.
    ///
    /// Some types write text that they cannot read, for example a flattened map with number keys.
    /// The check does not notice a field that is never written (`#[serde(skip)]`): in other
    /// processes it has its default value.
    ///
    /// # Errors
    /// [`CodecError`] that names the type and the remedy.
    ///
    /// # Examples
    /// ```
    /// use larder_core::{Codec, JsonCodec};
    ///
    /// assert!(JsonCodec.check::<Vec<f64>>(b"[1.5]").is_ok());
    /// let error = JsonCodec.check::<Vec<f64>>(b"[null]").unwrap_err();
    /// assert!(error.to_string().contains("cannot be read back"));
    /// ```
    fn check<T: Serialize + DeserializeOwned>(&self, bytes: &[u8]) -> Result<(), CodecError> {
        let name = type_name::<T>();
        let back = self.decode::<T>(bytes).map_err(|error| {
            CodecError(format!(
                "a `{name}` cannot be read back from its own bytes ({error}): {REMEDY}"
            ))
        })?;
        let mut again = Vec::with_capacity(bytes.len());
        match back {
            Some(value) => self.encode(&value, &mut again)?,
            None => again.extend(self.absent()),
        }
        if self.is_same(bytes, &again) {
            return Ok(());
        }
        Err(CodecError(format!(
            "a `{name}` comes back from its own bytes as another value: {REMEDY}"
        )))
    }
}

const REMEDY: &str = "make its Serialize and Deserialize agree";

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

/// Plain JSON, with `null` for "known to be absent": `redis-cli GET` shows it, other languages read
/// it.
///
/// A float comes back as the very same one. JSON has no infinity and no NaN: a value with one of
/// them is an error, and never silently a `null`, which would be `None` in another process.
///
/// Source: [RFC 8259](https://www.rfc-editor.org/rfc/rfc8259).
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonCodec;

impl JsonCodec {
    /// Returns the number of bytes of the value's JSON, without making it. An infinity or a NaN
    /// counts as `null`.
    ///
    /// ```
    /// # use larder_core::JsonCodec;
    /// assert_eq!(JsonCodec.encoded_len(&("Ada", 36))?, r#"["Ada",36]"#.len());
    /// # Ok::<(), larder_core::CodecError>(())
    /// ```
    ///
    /// # Errors
    /// [`CodecError`] if the value is no JSON, as a map whose keys are no text.
    pub fn encoded_len<T: Serialize + ?Sized>(&self, value: &T) -> Result<usize, CodecError> {
        let mut length = Length(0);
        serde_json::to_writer(&mut length, value).map_err(|error| unwritable(&error))?;
        Ok(length.0)
    }
}

/// Counts bytes in place of writing them.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes compact JSON, and notes whether there is a `null` in it: that is how serde_json writes a
/// float which JSON cannot say.
struct NotesNull<'a>(&'a Cell<bool>);

impl Formatter for NotesNull<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.set(true);
        out.write_all(b"null")
    }
}

impl Codec for JsonCodec {
    fn encode<T: Serialize + ?Sized>(
        &self,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let has_null = Cell::new(false);
        let mut json = Serializer::with_formatter(out, NotesNull(&has_null));
        value
            .serialize(&mut json)
            .map_err(|error| unwritable(&error))?;
        // Looked at once more only then, so that other values cost nothing.
        if has_null.get() && !is_finite(value) {
            return Err(CodecError::new(
                "JSON has no infinity and no NaN: keep such a float as a text or as an enum",
            ));
        }
        Ok(())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<Option<T>, CodecError> {
        if bytes.trim_ascii() == self.absent() {
            return Ok(None);
        }
        serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|error| unreadable(&error))
    }

    fn absent(&self) -> &'static [u8] {
        b"null"
    }

    /// Equal but for the order within objects and arrays: that of a hash map or set differs each
    /// time.
    fn is_same(&self, one: &[u8], other: &[u8]) -> bool {
        let [one, other] = [one, other].map(serde_json::from_slice);
        match (one, other) {
            (Ok(one), Ok(other)) => in_order(one) == in_order(other),
            _ => false,
        }
    }
}

/// Sorts the elements of every array. Objects are sorted already.
fn in_order(value: Value) -> Value {
    match value {
        Value::Array(elements) => {
            let mut elements: Vec<Value> = elements.into_iter().map(in_order).collect();
            elements.sort_by_cached_key(Value::to_string);
            Value::Array(elements)
        }
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(name, value)| (name, in_order(value)))
                .collect(),
        ),
        scalar => scalar,
    }
}

fn unwritable(error: &serde_json::Error) -> CodecError {
    // serde_json tells a key of another type by its text alone, which quotes no value.
    let is_key = error.is_syntax() && error.to_string().starts_with("key must be a string");
    CodecError::new(match is_key {
        true => {
            "a map's keys are no text in JSON: use string keys, or store the map as a list of pairs"
        }
        false => "the type's Serialize failed, or does not fit JSON",
    })
}

/// Describes an error by its kind and place: serde's own message can quote the value.
fn unreadable(error: &serde_json::Error) -> CodecError {
    let kind = match error.classify() {
        Category::Io => "the bytes could not be read",
        Category::Syntax => "the bytes are not JSON",
        Category::Data => "the JSON is not of the expected type",
        Category::Eof => "the JSON ends too early",
    };
    CodecError(format!(
        "{kind} (line {}, column {})",
        error.line(),
        error.column()
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap, HashSet};

    use serde::Deserialize;

    use super::*;

    fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
        let mut bytes = Vec::new();
        JsonCodec.encode(value, &mut bytes).unwrap();
        bytes
    }

    fn check<T: Serialize + DeserializeOwned>(value: &T) -> Result<(), CodecError> {
        JsonCodec.check::<T>(&encoded(value))
    }

    #[test]
    fn value_round_trips_as_plain_json() {
        let bytes = encoded(&("Ada", 36));
        assert_eq!(bytes, br#"["Ada",36]"#);
        assert_eq!(
            JsonCodec.decode::<(String, u32)>(&bytes),
            Ok(Some(("Ada".to_owned(), 36)))
        );
    }

    #[test]
    fn null_is_known_to_be_absent() {
        assert_eq!(JsonCodec.decode::<u32>(b" null\n"), Ok(None));
    }

    #[test]
    fn wrong_type_says_where_without_the_value() {
        let error = JsonCodec.decode::<u32>(br#""top secret""#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the JSON is not of the expected type (line 1, column 12)"
        );
    }

    #[test]
    fn float_comes_back_as_the_very_same_one() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let floats = (0..100_000).map(|_| f64::from_bits(random.u64(..)));
        let amounts = (0..100_000).map(|n| f64::from(n) * 1.1 + 117.633_313_911_400_17);
        for float in floats.chain(amounts).filter(|float| float.is_finite()) {
            let back: Option<f64> = JsonCodec.decode(&encoded(&float)).unwrap();
            assert_eq!(
                back.map(f64::to_bits),
                Some(float.to_bits()),
                "{float:?}, seed {seed}"
            );
        }
        let single = f32::from_bits(random.u32(..) & 0x7f7f_ffff);
        assert_eq!(
            JsonCodec.decode(&encoded(&single)),
            Ok(Some(single)),
            "seed {seed}"
        );
    }

    #[test]
    fn map_with_other_keys_than_text_says_the_remedy() {
        let pairs = HashMap::from([((1_u8, 2_u8), 3_u8)]);
        let error = JsonCodec.encode(&pairs, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("use string keys"), "{error}");
    }

    #[derive(Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        counts: BTreeMap<u32, u32>,
    }

    #[derive(Serialize, Deserialize)]
    struct OneWay {
        #[serde(skip_deserializing)]
        hidden: u8,
        #[serde(rename(serialize = "a", deserialize = "b"), default)]
        renamed: u8,
    }

    #[test]
    fn type_that_cannot_read_its_own_bytes_is_named() {
        let error = check(&Flat {
            counts: BTreeMap::from([(1, 1)]),
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("Flat` cannot be read back"), "{error}");
        let error = check(&OneWay {
            hidden: 1,
            renamed: 2,
        })
        .unwrap_err()
        .to_string();
        assert!(
            error.contains("OneWay` comes back from its own bytes as another value"),
            "{error}"
        );
        assert!(JsonCodec.check::<Vec<f64>>(b"[null]").is_err());
    }

    #[derive(Serialize)]
    enum Shape {
        Dot,
        Width(Option<f32>),
        Both(f64, f64),
        Named { width: f64 },
    }

    #[test]
    fn float_that_json_cannot_say_is_an_error_wherever_it_is() {
        fn refused(value: &impl Serialize) {
            let error = JsonCodec.encode(value, &mut Vec::new()).unwrap_err();
            assert!(error.to_string().contains("no infinity"), "{error}");
        }
        for float in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            refused(&float);
            refused(&Some(float));
            refused(&(1, [vec![float]]));
            refused(&BTreeMap::from([("width", (float, None::<u8>))]));
            refused(&Shape::Both(1.0, float));
            refused(&[Shape::Named { width: float }]);
        }
        refused(&Shape::Width(Some(f32::INFINITY)));
    }

    #[test]
    fn null_that_is_no_float_is_written_as_it_is() {
        let value = (None::<f64>, (), Shape::Dot, Shape::Width(None));
        assert_eq!(encoded(&value), br#"[null,null,"Dot",{"Width":null}]"#);
        let finite = (Some(1.5), Shape::Both(0.5, 2.5), None::<u8>);
        assert_eq!(encoded(&finite), br#"[1.5,{"Both":[0.5,2.5]},null]"#);
        assert_eq!(JsonCodec.encoded_len(&finite), Ok(encoded(&finite).len()));
    }

    #[test]
    fn sets_and_maps_come_back_in_another_order() {
        let words: HashSet<String> = (0..50).map(|n| n.to_string()).collect();
        let nested: HashMap<String, HashSet<String>> = words
            .iter()
            .map(|word| (word.clone(), words.clone()))
            .collect();
        assert_eq!(check(&words), Ok(()));
        assert_eq!(check(&nested), Ok(()));
        assert_eq!(
            check(&(1, 2.5, "x".to_owned(), Some(u64::MAX), i64::MIN)),
            Ok(())
        );
    }
}
